"""What examples/rust_worker.rs calls at workers that are Python interpreters; it has the same function for those that are Rust programs."""

import math


def area(radius):
    return {"by": "Python", "area": math.pi * radius**2}
