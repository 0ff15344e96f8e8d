"""Which layers become Mamba layers: the layouts of arXiv 2408.15237, for any depth."""

from .errors import UserError

NAMES = ("100", "75", "50", "25", "12.5", "0")  # per cent of attention


def mamba_layers(layout, num_layers):
    """layout: a percentage of attention left, or a list of the layers that become Mamba layers."""
    if isinstance(layout, (list, tuple)):
        layers = sorted(layout)
        if len(set(layers)) != len(layers) or any(
                isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < num_layers
                for i in layers):
            raise UserError(f"layout: different layers in [0, {num_layers - 1}] wanted, got {layout}")
        return layers
    every = {"50": 2, "25": 4, "12.5": 8}
    name = f"{layout:g}" if isinstance(layout, (int, float)) else str(layout)
    if name == "100":
        return []
    if name == "0":
        return list(range(num_layers))
    if name == "75":
        return [i for i in range(0, num_layers, 4) if i != num_layers - 1]
    if name not in every:
        raise UserError(f"layout: {', '.join(NAMES)} (per cent of attention) or a list of layers "
                        f"wanted, got {layout!r}")
    # The last layer of each group keeps its attention, and so does the model's last layer.
    step = every[name]
    return [i for i in range(num_layers) if i % step != step - 1 and i != num_layers - 1]


def stepwise_order(layers):
    """One layer at a time: every second, then every fourth of the rest, and so on; the recipe's
    order for 32 layers is 0,2,..,30, 1,5,..,29, 3,11,.., 7,23, 15, 31."""
    order, start, step = [], 0, 2
    while start <= max(layers, default=-1):
        order += [i for i in range(start, max(layers) + 1, step) if i in layers]
        start, step = 2 * start + 1, 2 * step
    return order + [i for i in layers if i not in order]
