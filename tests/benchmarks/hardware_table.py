"""`python -m tests.benchmarks.hardware_table`: the README's table of what the avatar engine takes, from the cost model.

Every row is an estimate until somebody measures it. A row of MEASURED stands instead of the model's: card, what was
measured, and with which command and when.
"""

from pipeline.avatar import cards, costs
from pipeline.avatar.cards import Card, imagined_machine
from pipeline.avatar.costs import AvatarPlan, time_told
from pipeline.errors import PlanDoesNotFit
from pipeline.hardware import GIBIBYTE

NUM_FRAMES = 129  # one window, 5.16 s
PICTURES = ((512, 512), (704, 768))  # height and width, which are the clips' as well
RAM_GIB = 32
SHOWN = (
    "RTX 3060 Laptop",
    "RTX 4060",
    "RTX 3060",
    "RTX 4060 Ti",
    "RTX 3090",
    "RTX 4090",
    "RTX 5090",
    "ZeroGPU large",
    "A100",
    "H100",
)
MEASURED: dict[str, str] = {}  # card -> its whole row; none yet


def plan_for(card: Card, picture_size: tuple[int, int]) -> AvatarPlan | None:
    """The plan of one window on a card; None where it does not fit."""
    machine = imagined_machine(card=card, ram_gib=RAM_GIB)
    try:
        return costs.plan_avatar(machine, num_frames=NUM_FRAMES, picture_size=picture_size, size=min(picture_size))
    except PlanDoesNotFit:
        return None


def cell(plan: AvatarPlan | None) -> str:
    """Time, memory and placement of a plan."""
    if plan is None:
        return "does not fit"
    memory = f"{plan.estimate.peak_vram / GIBIBYTE:.1f} GiB"
    return f"{time_told(plan.estimate.seconds, 'en')}, {memory}, {plan.placement.value}"


def table() -> str:
    """The table in Markdown."""
    sizes = [f"{height} × {width}" for height, width in PICTURES]
    lines = [f"| card | memory | {' | '.join(sizes)} | figures are |", "|---" * (3 + len(sizes)) + "|"]
    for name in SHOWN:
        card = cards.find_card(name)
        assert card is not None, name
        cells = " | ".join(cell(plan_for(card, picture)) for picture in PICTURES)
        lines.append(MEASURED.get(name, f"| {name} | {card.gib:g} GB | {cells} | estimated |"))
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
