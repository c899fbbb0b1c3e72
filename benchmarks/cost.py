# ruff: noqa: E501 (sentences of a page)
"""What each documented detector costs on this machine, beside what its document claims: writes ``docs/cost.md``.

    python -m benchmarks.cost [NAME…] [--rounds 5] [--out docs/cost.md] [--int8] [--all-int8] [--no-times] [--networks DIR]

Networks have stand-in weights under which signals stay alive: numbers that die away on their way are slower to multiply.
Each engine is measured in a process of its own, so that memory is its own. Milliseconds of a busy machine mean little;
ratios within one run mean more. ``--int8`` quantises the one detector whose document states a size that only eight bits
give; ``--all-int8`` quantises every one, which takes minutes each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = (
    "efficientnet-b7-dfdc",
    "efficientnet-b4-mobile",
    "efficientnet-b4-keras",
    "cross-efficient-vit",
    "efficientnet-b4-224",
)
# The document of this one states 19 MB, which is its size in eight bits.
STATED_IN_INT8 = ("efficientnet-b4-mobile",)
CALIBRATED = 4
ENGINES = ("torch fp32", "onnx fp32", "openvino fp32", "openvino bf16", "openvino int8")


def describe(name: str) -> dict[str, Any]:
    """Parameters and multiply-adds of one face, counted on shapes alone."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from faceproof.training.systems import build, count_parameters, plan_of

    with torch.device("meta"):
        network = build(name).to("meta")
    size = plan_of(name).image_size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, size, size, device="meta"))
    return {"parameters": count_parameters(network), "macs": counter.get_total_flops() / 2, "size": size}


def xception() -> dict[str, Any]:
    """The documents' yardstick, at its own 299 px."""
    import timm
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network = timm.create_model("legacy_xception", num_classes=1).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, 299, 299, device="meta"))
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "macs": counter.get_total_flops() / 2,
        "size": 299,
    }


def examples(name: str, count: int) -> Any:
    """Crops as the detector prepares them, float32 ``[count, 3, S, S]``."""
    from faceproof.detectors.catalog import find_spec
    from faceproof.faces.crops import batch
    from faceproof.training.convert.onnx import random_crops

    return batch(random_crops(count), find_spec(name).spec.input)


def lively(name: str) -> Any:
    """The detector's network with stand-in weights."""
    import torch

    from faceproof.training.systems import build
    from faceproof.training.systems.stand_in import stand_in_weights

    return stand_in_weights(build(name), torch.from_numpy(examples(name, 2)))


def convert(name: str, folder: Path, int8: bool) -> dict[str, int]:
    """Write the network for every engine and return the bytes of each."""
    import numpy as np
    import torch

    from faceproof.training.convert.onnx import export_onnx
    from faceproof.training.systems import plan_of

    path, size = folder / f"{name}.onnx", plan_of(name).image_size
    weights = folder / f"{name}.pt"
    if not (path.is_file() and weights.is_file()):
        torch.manual_seed(0)
        network = lively(name)
        export_onnx(network, size, path)
        torch.save(network.state_dict(), weights)
    np.save(folder / f"{name}.npy", examples(name, 1))
    sizes = {"fp32": path.stat().st_size}
    if int8:
        import onnx

        from faceproof.detectors.catalog import find_spec
        from faceproof.training.convert.int8 import reduce
        from faceproof.training.convert.onnx import random_crops

        small = folder / f"{name}.int8.onnx"
        onnx.save(reduce(path, find_spec(name).spec, random_crops(CALIBRATED)), str(small))
        sizes["int8"] = small.stat().st_size
    return sizes


def measure(name: str, engine: str, folder: str, rounds: int) -> dict[str, float]:
    """Median milliseconds for one face and peak megabytes, in this process, which loads nothing but the engine."""
    import numpy as np

    face = np.load(Path(folder) / f"{name}.npy")
    if engine == "torch fp32":
        import torch

        from faceproof.training.systems import build

        network = build(name)
        network.load_state_dict(torch.load(Path(folder) / f"{name}.pt", weights_only=True, mmap=True))

        def run() -> object:
            with torch.inference_mode():
                return network(torch.from_numpy(face))
    else:
        from faceproof.runtime import load_network

        runtime, precision = engine.split()
        ending = "int8.onnx" if precision == "int8" else "onnx"
        precision = "fp32" if precision == "int8" else precision
        loaded = load_network(Path(folder) / f"{name}.{ending}", runtime=runtime, precision=precision)  # type: ignore[arg-type]

        def run() -> object:
            return loaded.run(face)

    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    return {"ms": statistics.median(times), "best_ms": min(times), "mb": peak_megabytes()}


def peak_megabytes() -> float:
    """Most memory this process has held. ``ru_maxrss`` would be its parent's where that was larger."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def in_own_process(name: str, engine: str, folder: Path, rounds: int) -> dict[str, float] | None:
    command = [sys.executable, "-m", "benchmarks.cost", "--measure", name, engine, str(folder), "--rounds", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name} {engine}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return dict(json.loads(done.stdout.splitlines()[-1]))


def gather(
    names: list[str], rounds: int, in_int8: tuple[str, ...], timed: bool, networks: Path | None
) -> dict[str, Any]:
    from faceproof.runtime.cpu import computes_bf16, cpu_name, usable_cores

    facts: dict[str, Any] = {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "xception": xception(),
        "detectors": {},
    }
    for name in names:
        print(name, file=sys.stderr)
        row, int8 = describe(name), name in in_int8
        with tempfile.TemporaryDirectory() as temporary:
            place = networks or Path(temporary)
            row["bytes"] = convert(name, place, int8)
            engines = [e for e in ENGINES if ("int8" not in e or int8) and ("bf16" not in e or computes_bf16())]
            row["engines"] = {e: in_own_process(name, e, place, rounds) for e in engines} if timed else {}
        facts["detectors"][name] = row
    facts["load_after"] = os.getloadavg()[0]
    return facts


def page(facts: dict[str, Any]) -> str:
    rows = facts["detectors"]
    lines = [
        "# What the documented detectors cost",
        "",
        f"Written by `python -m benchmarks.cost` on {facts['cpu']}, {facts['cores']} cores, Python {facts['python']}. Load average",
        f"{facts['load']:.1f} at the start and {facts['load_after']:.1f} at the end: where it exceeds the cores, other work ran beside, milliseconds",
        "are too high by as much, and only ratios within a row hold. Weights are stand-ins; size, memory and time do not",
        "depend on them. One face, batch 1, median (fastest) of the rounds.",
        "",
        "## Size",
        "",
        "| detector | input | parameters | multiply-adds | ONNX fp32 | int8 |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        sizes = row["bytes"]
        cells = [f"{sizes[k] / 1e6:.1f} MB" if k in sizes else "–" for k in ("fp32", "int8")]
        lines.append(
            f"| `{name}` | {row['size']} px | {row['parameters']:,} | {row['macs'] / 1e9:.2f} G | {' | '.join(cells)} |"
        )
    other = facts["xception"]
    lines.append(
        f"| Xception (their yardstick) | 299 px | {other['parameters']:,} | {other['macs'] / 1e9:.2f} G | "
        f"{other['parameters'] * 4 / 1e6:.1f} MB (computed) | – |"
    )
    lines += ["", "## Time of one face, and the process's peak memory", ""]
    engines = [e for e in ENGINES if any(e in row["engines"] for row in rows.values())]
    if not engines:
        lines += [
            "Not measured in this run (`--no-times`): the machine was busy, and its numbers would say so, not how fast the",
            "networks are. `python -m benchmarks.cost --int8` on an idle machine fills this section.",
            "",
        ]
    lines += [f"| detector | {' | '.join(engines)} |", "|---|" + "---|" * len(engines)] if engines else []
    for name, row in rows.items() if engines else ():
        cells = []
        for engine in engines:
            one = row["engines"].get(engine)
            cells.append(f"{one['ms']:.0f} ({one['best_ms']:.0f}) ms, {one['mb']:.0f} MB" if one else "–")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    lines += ["", "## The documents' claims", "", "| claim | verdict |", "|---|---|"]
    lines += [f"| {claim} | {verdict} |" for claim, verdict in verdicts(facts)]
    return "\n".join(lines) + "\n"


def verdicts(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Each number the documents print, and what was found."""
    rows = facts["detectors"]
    found: list[tuple[str, str]] = []
    if b7 := rows.get("efficientnet-b7-dfdc"):
        found += [
            ("B7: ~66 M parameters, 264 MB", f"right: {b7['parameters'] / 1e6:.1f} M without the unused ImageNet layer, "
             f"{b7['bytes']['fp32'] / 1e6:.0f} MB"),
            ("B7: 37 GFLOPs at 380 px", f"wrong: {b7['macs'] / 1e9:.1f} G multiply-adds; 37 is the figure of 600 px"),
            ("B7: 58 blocks", "wrong: 55 (4, 7, 7, 10, 10, 13, 4)"),
            ("B7: 300 frames in 5–7 s on a GPU", "not tested here: no GPU. Their arithmetic assumes batches, their code scores "
             "faces one by one"),
        ]  # fmt: skip
    if mobile := rows.get("efficientnet-b4-mobile"):
        size8 = mobile["bytes"].get("int8")
        eight = f"{size8 / 1e6:.1f} MB in eight bits" if size8 else "eight bits not measured in this run"
        best = min(((e["ms"], e["best_ms"], n) for n, e in mobile["engines"].items() if e), default=None)
        quick = f"fastest here: {best[1]:.0f} ms ({best[2]})" if best else "nor in this run"
        memory = {n: e["mb"] for n, e in mobile["engines"].items() if e}
        least = min(memory, key=lambda n: memory[n]) if memory else None
        other = facts["xception"]
        found += [
            ("Mobile B4: 19 MB", f"only in eight bits: {mobile['bytes']['fp32'] / 1e6:.1f} MB as fp32, {eight}"),
            ("Mobile B4: 80 ms (GPU), 300 ms (CPU)", f"not measured by its authors (constants in the code), {quick}"),
            ("Mobile B4: 12.5 FPS", "is 1 / 80 ms, not a measurement: it leaves out decoding and finding faces"),
            ("Mobile B4: 512 MB", f"here {memory[least]:.0f} MB with {least}, {memory.get('torch fp32', 0):.0f} MB with torch"
             if least else "not measured in this run"),
            ("4.6× smaller than Xception's 88 MB", f"compares eight bits with fp32: like with like "
             f"{other['parameters'] / mobile['parameters']:.2f}×"),
            ("1.875× faster, 4× less memory than Xception", "not measured by its authors; `faceproof benchmark-against` measures both "
             "on your machine"),
        ]  # fmt: skip
    if keras := rows.get("efficientnet-b4-keras"):
        found += [
            ("Keras B4: 20,447,844 parameters, 78 MB", f"counts the optimiser: {(keras['parameters'] + 129_815) / 1e6:.1f} M with "
             f"running statistics, {keras['bytes']['fp32'] / 1e6:.0f} MB"),
            ("Keras B4: 923,137 trainable, 17,678,431 frozen", "right; asserted by a test"),
            ("Keras B4: 200–300 ms on a CPU", _time_of(keras)),
        ]  # fmt: skip
    if cross := rows.get("cross-efficient-vit"):
        found += [
            ("Cross-EfficientNet-ViT: 10–15 M parameters", f"wrong: {cross['parameters']:,}"),
            ("Its large branch: 0.1 M", "wrong: a whole EfficientNet-B0 of 5.29 M, of which three blocks run"),
            ("Attention scales quadratically, GPU intensive", f"two tokens a branch at 224 px; {cross['macs'] / 1e9:.2f} G "
             "multiply-adds in all"),
        ]  # fmt: skip
    if two := rows.get("efficientnet-b4-224"):
        found.append(("Two-class B4: 19 M parameters", f"{two['parameters'] / 1e6:.1f} M"))
    return found


def _time_of(row: dict[str, Any]) -> str:
    times = {name: one["best_ms"] for name, one in row["engines"].items() if one}
    if not times:
        return "not measured in this run"
    best = min(times, key=lambda name: times[name])
    return f"here {times[best]:.0f} ms at best with {best}, {times.get('torch fp32', float('nan')):.0f} ms with torch"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NAMES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("docs/cost.md"))
    parser.add_argument("--int8", action="store_true", help="quantise what its document states in eight bits")
    parser.add_argument("--all-int8", action="store_true", help="quantise every one: minutes each")
    parser.add_argument("--no-times", action="store_true", help="count and weigh only: for a busy machine")
    parser.add_argument("--networks", type=Path, metavar="DIR", help="keep converted networks here for the next run")
    parser.add_argument("--measure", nargs=3, metavar=("NAME", "ENGINE", "FOLDER"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        name, engine, folder = chosen.measure
        print(json.dumps(measure(name, engine, folder, chosen.rounds)))
        return
    in_int8 = tuple(chosen.names) if chosen.all_int8 else STATED_IN_INT8 if chosen.int8 else ()
    facts = gather(chosen.names, chosen.rounds, in_int8, not chosen.no_times, chosen.networks)
    chosen.out.write_text(page(facts), encoding="utf-8")
    print(chosen.out)


if __name__ == "__main__":
    main()
