"""``python -m foveal``: the command line; what ``torchrun -m foveal`` starts."""

from foveal.cli.main import main

if __name__ == "__main__":
    main()
