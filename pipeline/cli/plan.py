"""`python -m pipeline plan`: what a clip by the avatar engine would take, on this machine or on one thought of. Renders
nothing, and works without torch for a machine thought of.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline import AvatarError, hardware, media
from pipeline.avatar import cards, costs
from pipeline.avatar.costs import AvatarPlan, time_told
from pipeline.avatar.speed import DEFAULT, PRESETS
from pipeline.cli import DONE, REFUSED
from pipeline.cli.parser import whole_number
from pipeline.errors import PlanDoesNotFit
from pipeline.hardware import Machine, Placement
from pipeline.plan import frames_of
from pipeline.request import MAX_STEPS
from pipeline.texts import number, say
from pipeline.units import GIBIBYTE, GIGABYTE

TERA = 10**12
DEVICES = ("cuda", "mps", "cpu")
DEFAULT_RAM = 32.0  # GiB of a machine thought of
DRAFT_SHARE = 0.4  # of a clip's length, that the draft takes on two cores; README, Engines


def add(commands: Any, language: str) -> None:
    """Explain the command, in `language`, to the parser's list of commands."""
    explained = say("CliPlan", language)
    make = commands.add_parser("plan", help=explained, description=explained, language=language)
    make.add_argument("portrait", metavar="PORTRAIT", type=Path, help=say("CliPortrait", language))
    make.add_argument("speech", metavar="VOICE", type=Path, help=say("CliSpeech", language))
    sizes = {"smallest": costs.SMALLEST_SIZE, "largest": costs.LARGEST_SIZE}
    make.add_argument(
        "--size",
        metavar="PIXELS",
        type=whole_number(language, *sizes.values()),
        help=say("CliPlanSize", language, **sizes),
    )
    make.add_argument(
        "--steps", metavar="N", type=whole_number(language, 1, MAX_STEPS), help=say("CliPlanSteps", language)
    )
    names = [placement.value for placement in Placement]
    make.add_argument("--placement", choices=names, help=say("CliPlanPlacement", language, known=", ".join(names)))
    make.add_argument("--preset", choices=PRESETS, help=say("CliPlanPreset", language, known=", ".join(PRESETS)))
    make.add_argument("--vram", metavar="GIB", type=gibibytes(language), help=say("CliPlanVram", language))
    make.add_argument(
        "--ram", metavar="GIB", type=gibibytes(language), help=say("CliPlanRam", language, default=DEFAULT_RAM)
    )
    known = ", ".join((*DEVICES, *(card.name for card in cards.CARDS)))
    make.add_argument(
        "--device", metavar="NAME", type=device(language), help=say("CliPlanDevice", language, known=known)
    )


def gibibytes(language: str) -> Callable[[str], float]:
    """Reads an amount of memory as typed, with a point or a comma."""

    def read(written: str) -> float:
        try:
            amount = float(written.replace(",", "."))
        except ValueError:
            amount = 0.0
        if not 0 < amount < 10_000:  # nan is not, either
            raise argparse.ArgumentTypeError(say("CliNotAnAmount", language, written=written[:40]))
        return amount

    return read


def device(language: str) -> Callable[[str], str | cards.Card]:
    """Reads a device or a card's name."""

    def read(written: str) -> str | cards.Card:
        found = written.lower() if written.lower() in DEVICES else cards.find_card(written)
        if found is None:
            known = ", ".join((*DEVICES, *(card.name for card in cards.CARDS)))
            raise argparse.ArgumentTypeError(say("CliNotADevice", language, written=written[:40], known=known))
        return found

    return read


def run(options: argparse.Namespace, language: str) -> int:
    """Print the plans that fit; 1 when what was asked for does not, with the nearest that does."""
    try:
        picture_size = media.load_portrait(options.portrait).shape[:2]
        seconds = media.load_speech(options.speech).seconds
        machine, is_here = find_machine(options)
        download, conversion, is_known = still_needed(machine, is_here=is_here)
        changes = {name: getattr(options, name) for name in ("size", "steps", "preset") if getattr(options, name)}
        asked = {
            "num_frames": frames_of(seconds),
            "picture_size": picture_size,
            "placement": options.placement and Placement(options.placement),
            "download": download,
            "conversion": conversion,
            **changes,
        }
        plans, refusal = every_plan(machine, asked, is_asked=bool(changes or options.placement))
    except AvatarError as error:
        print(error.text(language), file=sys.stderr)
        return REFUSED
    except (ImportError, RuntimeError, AssertionError) as error:  # no torch, or none that has this device
        print(say("CliPlanNotMeasured", language, detail=str(error).partition("\n")[0]), file=sys.stderr)
        return REFUSED
    print(machine_told(machine, language, is_here=is_here))
    chosen, why = (plans[0], None) if changes else costs.recommended(plans)
    print_table(plans, chosen, language)
    print(say("CliPlanDraft", language, minutes=max(seconds * DRAFT_SHARE / 60, 0.1)))
    print()
    if refusal is not None:
        print(say("CliPlanLeftOut", language, reason=refusal.values[f"reason_{language}"]))
    if why is not None:
        print(why.text(language))
    shown = chosen or plans[0]
    if (fewer := costs.frames_of_fewer_windows(shown.num_frames)) is not None:
        windows, limit = shown.work.timeline.num_windows, f"{fewer / shown.fps:.2f}"
        told = {"limit_en": limit, "limit_fr": limit.replace(".", ","), "percent": round(100 * (windows - 1) / windows)}
        print(say("PlanShorten", language, **told))
    print(shown.estimate.reason.text(language))
    for preset in dict.fromkeys(plan.preset for plan in plans if plan.preset != DEFAULT):
        print(say("CliPlanExplained", language, preset=preset, text=say(PRESETS[preset].text, language)))
    if shown.tiling != "published":
        print(say("CliPlanTiling", language, tiling=shown.tiling))
    if not is_known:
        print(say("CliPlanDownload", language))
    print(say("PlanEstimated", language))
    return DONE


def find_machine(options: argparse.Namespace) -> tuple[Machine, bool]:
    """The machine that is asked about, and whether it is this one."""
    card = options.device if isinstance(options.device, cards.Card) else None
    name = None if card else options.device
    is_unified = name in ("mps", "cpu")
    if card is not None or options.vram is not None or (is_unified and options.ram is not None):
        ram = DEFAULT_RAM if options.ram is None else options.ram
        return cards.imagined_machine(device=name or "cuda", card=card, vram_gib=options.vram, ram_gib=ram), False
    from pipeline.avatar import hub

    machine = hardware.measure_machine(hub.published().storage, device=name)
    if options.ram is not None:
        machine = replace(machine, free_ram=cards.free_ram(options.ram))
    return machine, True


def still_needed(machine: Machine, *, is_here: bool) -> tuple[int, int, bool]:
    """Bytes to download, bytes to convert, and whether the Hub said so; a machine thought of has nothing yet."""
    from pipeline.avatar import hub

    precision = costs.precision_on(machine.device)
    conversion = costs.converted_bytes(precision)
    if not is_here:
        return round(sum(hub.PARTS[part].gigabytes for part in hub.parts(precision)) * GIGABYTE), conversion, False
    repository = hub.published()
    is_converted = hub.is_converted(repository, precision)
    missing, is_known = hub.bytes_missing(repository, precision)
    return missing, 0 if is_converted else conversion, is_known


def every_plan(
    machine: Machine, asked: dict[str, Any], *, is_asked: bool
) -> tuple[list[AvatarPlan], PlanDoesNotFit | None]:
    """The plan asked for and its alternatives, and why the first does not fit where nothing was asked for by name.

    Raises:
        PlanDoesNotFit: what was asked for by name does not fit, or nothing does.
    """
    try:
        return [costs.plan_avatar(machine, **asked), *costs.alternatives(machine, **asked)], None
    except PlanDoesNotFit as error:
        others = costs.alternatives(machine, **asked)
        if is_asked or not others:
            raise
        return others, error


def machine_told(machine: Machine, language: str, *, is_here: bool) -> str:
    """The machine in words."""
    rates = machine.rates or cards.assumed_rates(machine)
    values = {"name": machine.name, "ram": machine.free_ram / GIBIBYTE}
    memory = "CliPlanMemory" if machine.free_vram is not None else "CliPlanNoMemory"
    values["memory"] = say(memory, language, vram=(machine.free_vram or 0) / GIBIBYTE, ram=values["ram"])
    values |= {"matmul": rates.matmul / TERA, "attention": rates.attention / TERA}
    values |= {"copy": rates.copy / GIGABYTE, "mapped": rates.mapped / GIGABYTE}
    values["rates"] = say("CliPlanAssumed" if rates.assumed else "CliPlanMeasured", language)
    return say("CliPlanHere" if is_here else "CliPlanThere", language, **values)


def print_table(plans: Sequence[AvatarPlan], chosen: AvatarPlan | None, language: str) -> None:
    """One row for each plan; a mark before the one that is recommended."""
    rows = [["", *say("CliPlanColumns", language).split("|")]]
    for plan in plans:
        cost = plan.estimate
        rows.append(
            [
                "→" if plan is chosen else "",
                f"{plan.width}×{plan.height}",
                str(plan.num_frames),
                str(plan.num_inference_steps),
                plan.preset,
                plan.placement.value,
                time_told(cost.seconds, language),
                number(cost.peak_vram / GIBIBYTE, language) if cost.peak_vram else "-",
                number(cost.host_ram / GIBIBYTE, language),
                number(cost.download / GIGABYTE, language),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
