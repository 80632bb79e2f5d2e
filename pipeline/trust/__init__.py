"""What a clip says of itself and what is asked before it is made: credentials, marks, labels, consent, the gate."""
