"""`python -m faceproof` is the command line."""

from faceproof.cli import program

if __name__ == "__main__":
    program()
