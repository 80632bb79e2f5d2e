"""A run saved after every step: what did not change since the last step is not written again.

The parts of a run lie in files of their own, conditions, latents and the cache of each branch, and a state, written
last, names them with their digests. Measured at 704×768 in one window, tensors on the CPU: 17 MiB and 0.07 s a step;
868 MiB and 3.1 s after each of the five full steps of 50 that fill the caches; 1.4 s to load; at most 1.8 GB on disk.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pipeline.avatar.sampler import DenoisingRun, digest, pack, read_run, unpack
from pipeline.errors import RunDamaged
from pipeline.files import write_json, written_whole

FORMAT = 1  # of a state; another one is refused
STATE = re.compile(r"state-(\d{6})\.json")


class Checkpoints:
    """The last two states of one run, in a folder of its own.

    A process may be killed at any byte: the newest whole state is found again, and continued it ends bit for bit as
    if nothing had happened. Every file is on the disk before the state that names it, and is taken away only when two
    newer states are. One process at a time: the job's lock sees to that.

    Args:
        folder: Made by the first `save`; nothing else lies in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._parts: dict[str, dict[str, Any]] = {}  # of the last state: name, digest and version of every part
        self._kept: set[str] = set()  # files of the last state
        self._conditions: object = None  # of the run that the last state is of

    def save(self, run: DenoisingRun) -> None:
        """Save a run where it stands.

        Args:
            run: The one that was saved or loaded here last; another one takes its place.

        Raises:
            DiskFull: it is not saved, the last states are.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        before = {file.name for file in self.folder.iterdir()}
        try:
            parts, new = self._write_state(run)
        except BaseException:
            self._keep(before)
            raise
        self._keep(new | self._kept)
        self._parts, self._kept, self._conditions = parts, new, run.conditions

    def load(self) -> DenoisingRun | None:
        """The run where it was saved last, on the CPU; None where nothing was saved.

        Raises:
            RunDamaged: no state can be read.
        """
        states = self._states()
        causes = []
        for _, path in states:
            try:
                return self._read(path)
            except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                causes.append(error)
        if states:
            raise RunDamaged(count=len(states), file=states[0][1].name) from causes[0]
        return None

    def clear(self) -> None:
        """Delete all of it, so that the run begins anew."""
        self._keep(set())
        self._parts, self._kept, self._conditions = {}, set(), None

    def _states(self) -> list[tuple[int, Path]]:
        """Number and file of every state, the newest first."""
        files = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted(((int(found[1]), file) for file in files if (found := STATE.fullmatch(file.name))), reverse=True)

    def _keep(self, names: set[str]) -> None:
        """Delete all files but these."""
        for file in self.folder.iterdir() if self.folder.is_dir() else ():
            if file.name not in names:
                file.unlink(missing_ok=True)

    def _write_state(self, run: DenoisingRun) -> tuple[dict[str, dict[str, Any]], set[str]]:
        """Write what changed, and the state that names it; the parts of the state, and all files it consists of."""
        number = max((found for found, _ in self._states()), default=0) + 1
        tensors: dict[str, torch.Tensor] = {}
        plain = pack(run, "run", tensors)
        known = self._parts if run.conditions is self._conditions else {}
        versions = {  # of parts that stay the same while their version does; the others are written every time
            "conditions": 0,
            "difference": 0,  # written once
            "negative_cache": run.negative_cache.num_written,
            "positive_cache": run.positive_cache.num_written,
        }
        groups: dict[str, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            groups.setdefault(name.split(".")[1], {})[name] = tensor  # run.conditions.prompt…: of part conditions
        parts = {}
        for part, members in groups.items():
            version = versions.get(part, number)
            if part not in known or known[part]["version"] != version:
                parts[part] = {**self._write(part, number, members), "version": version}
            else:
                parts[part] = known[part]
        state = {"format": FORMAT, "run": plain, "parts": parts}
        path = self.folder / f"state-{number:06d}.json"
        write_json(path, {**state, "sha256": digest(state, {})})
        return parts, {path.name} | {str(part["name"]) for part in parts.values()}

    def _write(self, part: str, number: int, tensors: dict[str, torch.Tensor]) -> dict[str, str]:
        """Write a part; its name and digest."""
        # safetensors refuses tensors that share memory, as two equal prompts do; a cache never does, and is large
        kept = {
            name: tensor.detach().to("cpu", copy=not part.endswith("_cache")).contiguous()
            for name, tensor in tensors.items()
        }
        path = self.folder / f"{part}-{number:06d}.safetensors"
        with written_whole(path) as unfinished:
            try:
                save_file(kept, unfinished)
            except SafetensorError as error:  # in whose words alone the disk's error stands
                number_told = re.search(r"\(os error (\d+)\)", str(error))
                raise OSError(int(number_told[1]) if number_told else 0, str(error)) from error
        return {"name": path.name, "sha256": digest(None, kept)}

    def _read(self, path: Path) -> DenoisingRun:
        """The run of a state."""
        state = json.loads(path.read_text("utf-8"))
        told = state.pop("sha256")
        if state["format"] != FORMAT or told != digest(state, {}):
            raise ValueError(f"{path.name} is of another format or not as it was saved")
        tensors: dict[str, torch.Tensor] = {}
        for part in state["parts"].values():
            with safe_open(self.folder / part["name"], "pt") as file:
                # cloned: a tensor in a file lies at another address, where a CPU may round its sums otherwise
                read = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
            if digest(None, read) != part["sha256"]:
                raise ValueError(f"{part['name']} is not as it was saved")
            tensors |= read
        run = read_run(unpack(state["run"], tensors))
        self._parts, self._conditions = state["parts"], run.conditions
        self._kept = {path.name, *(part["name"] for part in state["parts"].values())}
        return run
