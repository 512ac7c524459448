"""The demo: the shipped base model, fine-tuned, aligned from noisy preferences, and measured against the truth of its world."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import ClassVar

from posttrain.jobs.job import Context, Job


class Demo(Job):
    """Run the demo recipe from start to report, and say how long it took."""

    name: ClassVar[str] = "demo"

    recipe: str = "recipes/demo.yaml"
    """Pipeline to run."""
    out: str = "runs/demo"
    """Directory of the demo; a finished one is replaced, an interrupted one goes on."""
    seed: int = 0
    """Seed of every draw."""

    def run(self, context: Context | None = None) -> Path:
        from posttrain.jobs import pipeline
        from posttrain.jobs.recipe_text import read_mapping

        context = context or Context()
        began = time.time()
        out = Path(self.out)
        if not Path(self.recipe).is_file():
            raise ValueError(
                f"recipe: {self.recipe} is not here; run the demo from the project's directory, or name the recipe"
            )
        if (out / "summary.json").is_file():
            shutil.rmtree(out)
        body = {**read_mapping(self.recipe), "seed": self.seed, "out": self.out}
        body["jobs"]["report"]["out"] = self.out
        plan = pipeline.build(body, Path(self.recipe).stem)
        page = plan.run(context)["report"]
        print(f"demo: ok in {time.time() - began:.0f} s, report {page}")
        return Path(page)
