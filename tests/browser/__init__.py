"""The page in a real browser."""

FLAGS = [  # --no-sandbox: containers and root; the rest keeps the browser's own errands off the machine and the network
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
