"""How fast `cam` judges: a clip played at its own speed, the rate, the lateness and the share of frames dropped.

python -m benchmarks.live --video clip.mp4 [--seconds 10] [--detector NAME]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

from faceproof.detectors.detector import load_detector
from faceproof.evidence.live import LiveState, judge_live, live_frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--detector")
    arguments = parser.parse_args()
    detector = load_detector(arguments.detector)
    states: list[LiveState] = []
    cpu, load = time.process_time(), os.getloadavg()[0]
    for state in judge_live(live_frames(arguments.video), detector):
        states.append(state)
        if state.time >= arguments.seconds:
            break
    cpu = time.process_time() - cpu
    # The first second holds the compiling of networks.
    late = sorted(state.latency for state in states if state.time > 1) or [states[-1].latency]
    result = {
        "judged_a_second": round(states[-1].fps, 1),
        "people_at_most": max(len(state.people) for state in states),
        "latency_ms_median": round(statistics.median(late) * 1000),
        "latency_ms_worst": round(late[-1] * 1000),
        "dropped_share": round(states[-1].dropped / (states[-1].judged + states[-1].dropped), 2),
        "cpu_ms_per_judged_frame": round(cpu / states[-1].judged * 1000, 1),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(load, 2),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
