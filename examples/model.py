"""What examples/model_server.rs keeps at a worker: a model that is fitted once and then asked often. It needs nothing but Python."""

_MODELS = {}


def fit(name, points):
    """Fits a line to points by least squares, keeps it under a name, and returns how far off it is on average."""
    count = float(len(points))
    middle_x = sum(x for x, _ in points) / count
    middle_y = sum(y for _, y in points) / count
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    if not spread:
        raise ValueError("a line needs points with more than one x")
    slope = sum((x - middle_x) * (y - middle_y) for x, y in points) / spread
    _MODELS[name] = slope, middle_y - slope * middle_x
    residual = sum(abs(y - predict(name, x)["y"]) for x, y in points) / count
    return {"slope": slope, "residual": residual}


def predict(name, x):
    """What the model of that name says of x, and how many models are kept in this process."""
    if name not in _MODELS:
        raise LookupError(f"no model is called {name!r}; there are: {', '.join(sorted(_MODELS)) or 'none'}")
    slope, start = _MODELS[name]
    return {"y": start + slope * x, "models": len(_MODELS)}
