"""`python -m polyspike.formal`: run all proofs, print a table of them, and write it down."""

import argparse
import concurrent.futures
import re
import sys
from pathlib import Path

from .prove import Proof, ProofError, Result, prove
from .suite import document, proofs, table


def directory(proof: Proof, root: Path) -> Path:
    """Return where the files of a proof go."""
    return root / re.sub(r"\W+", "-", f"{proof.block} {proof.claim}").lower()


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m polyspike.formal", description="Prove properties of the gateware.")
    parser.add_argument("--only", metavar="TEXT", default="", help="proofs whose block or claim has this in it")
    parser.add_argument("--jobs", type=int, default=2, help="proofs at a time (default: 2)")
    parser.add_argument("--directory", type=Path, default=Path("build/formal"), help="for models, logs and waveforms")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write proofs.md and proofs.json, if all succeed")
    options = parser.parse_args(arguments)
    chosen = [each for each in proofs() if options.only.lower() in f"{each.block}: {each.claim}".lower()]
    results: list[Result | None] = [None] * len(chosen)
    failures = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        futures = {
            pool.submit(prove, proof, directory(proof, options.directory)): number
            for number, proof in enumerate(chosen)
        }
        for done, future in enumerate(concurrent.futures.as_completed(futures), 1):
            number = futures[future]
            try:
                result = results[number] = future.result()
                print(f"[{done}/{len(chosen)}] {result.block}: {result.claim}: {result.seconds} s", flush=True)
            except ProofError as error:
                failures += 1
                print(f"[{done}/{len(chosen)}] FAILED {error}", flush=True)
    held = [each for each in results if each is not None]
    print()
    print(table(held), end="")
    print(f"\n{len(held)} of {len(chosen)} proofs hold")
    if options.write and not failures and not options.only:
        options.write.mkdir(parents=True, exist_ok=True)
        for name, text in zip(("proofs.md", "proofs.json"), document(held), strict=True):
            (options.write / name).write_text(text)
    return 1 if failures or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
