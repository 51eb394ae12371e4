"""`python -m meta.zoo RUN NAME`."""

from meta.zoo import main

main()
