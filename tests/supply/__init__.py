"""What the program is made of: locked versions, known vulnerabilities, licences. Run by `make`, at a release."""
