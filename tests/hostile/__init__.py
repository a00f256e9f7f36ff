"""Bad input by class: `make test-hostile` tries all of it, `make test` a case or two of each class."""
