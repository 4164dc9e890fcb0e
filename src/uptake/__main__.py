"""python -m uptake"""

from uptake.cli.main import main

main()
