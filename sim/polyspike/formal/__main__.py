"""`python -m polyspike.formal`: run all proofs, print a table of them, and write it down."""

import argparse
import concurrent.futures
import re
import sys
import time
from pathlib import Path

from .prove import Proof, ProofError, Result, prove
from .suite import document, proofs, table


def directory(proof: Proof, root: Path) -> Path:
    """Return where the files of a proof go."""
    return root / re.sub(r"\W+", "-", f"{proof.block} {proof.claim}").lower()


def _prove(number: int, root: Path) -> Result:
    """Prove one of the proofs, in a process of its own: their functions do not travel between processes."""
    proof = list(proofs())[number]
    return prove(proof, directory(proof, root))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m polyspike.formal", description="Prove properties of the gateware.")
    parser.add_argument("--only", metavar="TEXT", default="", help="proofs whose block or claim has this in it")
    parser.add_argument("--jobs", type=int, default=2, help="proofs at a time (default: 2)")
    parser.add_argument("--directory", type=Path, default=Path("build/formal"), help="for models, logs and waveforms")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write proofs.md and proofs.json, if all succeed")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    chosen = [
        number for number, each in enumerate(proofs()) if options.only.lower() in f"{each.block}: {each.claim}".lower()
    ]
    results: dict[int, Result] = {}
    with concurrent.futures.ProcessPoolExecutor(options.jobs) as pool:
        futures = {pool.submit(_prove, number, options.directory): number for number in chosen}
        for done, future in enumerate(concurrent.futures.as_completed(futures), 1):
            try:
                result = results[futures[future]] = future.result()
                print(f"[{done}/{len(chosen)}] {result.block}: {result.claim}: {result.seconds} s", flush=True)
            except ProofError as error:
                print(f"[{done}/{len(chosen)}] FAILED {error}", flush=True)
    failures = len(chosen) - len(results)
    held = [results[number] for number in sorted(results)]
    print()
    print(table(held), end="")
    print(f"\n{len(held)} of {len(chosen)} proofs hold; {time.monotonic() - start:.0f} s")
    if options.write and not failures and not options.only:
        options.write.mkdir(parents=True, exist_ok=True)
        for name, text in zip(("proofs.md", "proofs.json"), document(held), strict=True):
            (options.write / name).write_text(text)
    return 1 if failures or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
