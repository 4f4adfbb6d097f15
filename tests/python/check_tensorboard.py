"""TensorBoard reads strand's event files, and lets a resumed run replace the steps it repeats.
check_tensorboard.py SAMPLE_FILES"""
import subprocess
import sys
import tempfile

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main(sample_files):
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([sample_files, "events", directory], check=True)
        accumulator = EventAccumulator(directory)
        accumulator.Reload()
        assert accumulator.Tags()["scalars"] == ["loss/ce"], accumulator.Tags()
        found = [(event.step, event.value) for event in accumulator.Scalars("loss/ce")]
    expected = [(step, 10.0 - step) for step in range(6)] + [(6, 106.0), (7, 107.0)]
    assert found == expected, found
    print(f"tensorboard: {len(found)} points, steps 6 to 9 of the first run replaced")


if __name__ == "__main__":
    main(sys.argv[1])
