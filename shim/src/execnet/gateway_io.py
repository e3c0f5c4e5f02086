"""``execnet.gateway_io`` has nothing that users import: here too, how a worker is started is nobody else's business."""

__all__: list[str] = []
