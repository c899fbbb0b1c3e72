"""`python -m faceproof` is the command line."""

from faceproof.cli import main

if __name__ == "__main__":
    main()
