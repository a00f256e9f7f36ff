"""The error of everything a user can put right."""


class UserError(Exception):
    """Bad input or a missing piece. The message names the thing, the value, what is allowed and what to do."""


class Diverged(UserError):
    """A training's loss is not finite or ran away."""


class Stopped(Exception):
    """Raised inside a step when `should_stop()` turned true and all work so far is saved."""
