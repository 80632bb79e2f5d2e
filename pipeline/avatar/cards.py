"""How fast common cards are, where none is there to be measured: assumed figures, marked so. Measures nothing."""

from dataclasses import dataclass

from pipeline.hardware import Machine, Rates
from pipeline.units import GIBIBYTE

TERA, GIGA = 1e12, 1e9
MAPPED = 2 * GIGA  # bytes/s from an NVMe disk through the page cache; a SATA disk gives a quarter of it
DESKTOP_VRAM = 0.4 * GIBIBYTE  # bytes of a card's memory that screen and other programs hold
SYSTEM_RAM = 3 * GIBIBYTE  # bytes of host memory that system and other programs hold
METAL_SHARE = 0.75  # of memory, what Metal recommends at most. Source: Apple, recommendedMaxWorkingSetSize
ASSUMED_DISK = 200 * GIBIBYTE  # bytes free; a machine that is only thought of has room


@dataclass(frozen=True)
class Card:
    """One card.

    Args:
        name: As it is sold.
        gib: Its memory.
        matmul: TFLOP/s of bf16 products summed in float32.
        attention: TFLOP/s of flash attention.
        copy: GB/s from pinned memory, by its link as commonly built in.
        device: "cuda", "mps" or "cpu".
    """

    name: str
    gib: float
    matmul: float
    attention: float
    copy: float
    device: str = "cuda"

    @property
    def rates(self) -> Rates:
        """In FLOP/s and bytes/s."""
        copy = self.copy * GIGA
        return Rates(self.matmul * TERA, self.attention * TERA, copy, min(MAPPED, copy), assumed=True)


# Assumed: nine tenths of the makers' figures for dense products on GeForce cards, seven or eight tenths on others,
# which run into their power limits; attention as flash kernels are published to reach. Classes, not measurements.
# Sources: NVIDIA's data sheets (dense bf16 with float32 sums: RTX 3060 25 TFLOP/s, 4060 30, 4060 Ti 44, 3090 71, 4090
# 165, 5090 209, A6000 155, A100 312, L40S 362, H100 and H200 989); FlashAttention-2 and 3, benchmarks (A100 220, H100
# 400 to 650).
CARDS = (
    Card("RTX 3060 Laptop", 6, 18, 16, 12),
    Card("RTX 4060", 8, 28, 26, 12),
    Card("RTX 3060", 12, 25, 22, 12),
    Card("RTX 4070", 12, 53, 50, 22),
    Card("RTX 4060 Ti", 16, 40, 36, 12),
    Card("RTX 4080", 16, 88, 82, 22),
    Card("RTX 3090", 24, 64, 60, 22),
    Card("RTX 4090", 24, 150, 145, 22),
    Card("RTX 5090", 32, 195, 175, 45),
    Card("L40S", 48, 220, 180, 22),
    Card("RTX A6000", 48, 115, 105, 22),
    Card("A100", 80, 250, 210, 22),
    Card("H100", 80, 700, 500, 45),
    Card("H200", 141, 700, 500, 45),
)
APPLE = Card("Apple silicon", 0, 10, 5, 50, "mps")  # a Max chip; a basic one has a third of it
PROCESSOR = Card("processor", 0, 0.4, 0.3, 5, "cpu")  # eight cores with AVX-512 and bf16
ZERO_GPU = Card("ZeroGPU large", 47, 200, 170, 22)  # half an RTX PRO 6000 Blackwell


def find_card(name: str) -> Card | None:
    """The card called `name`, however spaces, letter case and the maker's name are written; "" finds none."""

    def plain(written: str) -> str:
        return written.lower().replace("nvidia", "").replace("geforce", "").replace(" ", "").replace("-", "")

    return next((card for card in (*CARDS, ZERO_GPU) if plain(card.name) == plain(name)), None)


def card_of_size(gib: float) -> Card:
    """The slowest card of the largest memory that is not above `gib`: what a card of that size can surely do."""
    fitting = [card for card in CARDS if card.gib <= gib] or list(CARDS[:1])
    largest = max(card.gib for card in fitting)
    return min((card for card in fitting if card.gib == largest), key=lambda card: card.matmul)


def assumed_rates(machine: Machine) -> Rates:
    """Rates for a machine that was not measured, by its card's name, else by its memory."""
    if machine.device == "cpu":
        return PROCESSOR.rates
    if machine.device == "mps":
        return APPLE.rates
    known = find_card(machine.name)
    return (known or card_of_size((machine.free_vram or 0) / GIBIBYTE + 1)).rates


def free_ram(ram_gib: float) -> int:
    """Bytes that a machine with so much memory has for us."""
    return max(int(ram_gib * GIBIBYTE - SYSTEM_RAM), 0)


def imagined_machine(
    *, device: str = "cuda", card: Card | None = None, vram_gib: float | None = None, ram_gib: float = 32
) -> Machine:
    """A machine that nobody measured.

    Of its memory, DESKTOP_VRAM and SYSTEM_RAM are counted as taken.

    Args:
        device: "cuda", "mps" or "cpu".
        card: Which card; None for the slowest of its size.
        vram_gib: Of graphics memory; None for the card's. On "mps" the host's memory is the card's as well.
        ram_gib: Of host memory.
    """
    ram = free_ram(ram_gib)
    if device == "cpu":
        return Machine("cpu", PROCESSOR.name, None, ram, ASSUMED_DISK, PROCESSOR.rates)
    if device == "mps":
        return Machine("mps", APPLE.name, int(ram * METAL_SHARE), ram, ASSUMED_DISK, APPLE.rates)
    if vram_gib is None:
        if card is None:
            raise ValueError("vram_gib or a card is needed to imagine a machine with one")
        vram_gib = card.gib
    card = card or card_of_size(vram_gib)
    free_vram = max(int(vram_gib * GIBIBYTE - DESKTOP_VRAM), 0)
    return Machine("cuda", card.name, free_vram, ram, ASSUMED_DISK, card.rates)
