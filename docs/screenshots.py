"""Trains a run and a sweep, opens every tab of a real TensorBoard in a real browser, and keeps
pictures of them.

Needs Debian's `chromium` and `chromium-driver`. Run it with `make screenshots`; it takes some three
minutes.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.support.ui import WebDriverWait

DOCS = Path(__file__).parent
SIZE = (1400, 1000)
# Kept in docs/, small enough for a page.
KEPT = ("custom_scalars", "images", "projector", "hparams_parallel")
KEPT_WIDTH = 1000
_SECONDS = 60


@dataclass(frozen=True)
class Shot:
    """A tab, which must show `words`; `click` is the text of what is clicked first. `of` is
    `run` or `sweep`.
    """

    name: str
    tab: str
    words: tuple[str, ...]
    of: str = "run"
    click: str = ""


SHOTS = (
    Shot("timeseries", "timeseries", ("Pinned", "Loss/train", "Accuracy/val")),
    Shot("scalars", "scalars", ("Accuracy/train", "Best/val_accuracy")),
    Shot("custom_scalars", "custom_scalars", ("Key metrics", "Loss", "Gradient norm")),
    Shot("images", "images", ("Confusion/test", "Feature_maps/conv1")),
    Shot("graphs", "graphs", ("conv1", "relu3", "output")),
    Shot("distributions", "distributions", ("Activations/conv1",)),
    Shot("histograms", "histograms", ("Activations/conv1",)),
    Shot("text", "text", ("Run/config",)),
    Shot("pr_curves", "pr_curves", ("Precision_recall/",)),
    Shot("projector", "projector", ("Points: 1000", "Dimension: 128", "into fc2")),
    Shot("hparams", "hparams", ("optimizer.lr", "Accuracy/test"), of="sweep"),
    Shot(
        "hparams_parallel",
        "hparams",
        ("optimizer.lr",),
        of="sweep",
        click="parallel coordinates view",
    ),
)
# The page is made of elements with shadow trees of their own, and the projector is a page in it:
# not in a page's text.
_DEEP = """
const found = [];
(function walk(node) {
  if (node.nodeType === Node.TEXT_NODE && node.textContent.trim()) found.push(node);
  if (node.shadowRoot) walk(node.shadowRoot);
  if (node.contentDocument) walk(node.contentDocument.body);
  node.childNodes.forEach(walk);
})(document.body);
"""
_TEXT = _DEEP + "return found.map(node => node.textContent).join('');"
_CLICK = (
    _DEEP
    + "found.find(node => node.textContent.trim().toLowerCase() === arguments[0].toLowerCase())"
)
_CLICK += ".parentElement.click();"


def main() -> None:
    """Read the words of the command line, train, look."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", default="data", help="where Fashion-MNIST is, or is put")
    parser.add_argument(
        "--out", type=Path, default=Path("build/screenshots"), help="folder of all pictures"
    )
    options = parser.parse_args()
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            sys.exit(
                f"{program} is not installed. On Debian: apt-get install chromium chromium-driver"
            )
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="screenshots-") as folder:
        train(Path(folder), data_root=str(Path(options.data_root).resolve()))
        with browser() as page:
            for of in ("run", "sweep"):
                with served(Path(folder) / of) as address:
                    for shot in (shot for shot in SHOTS if shot.of == of):
                        take(page, shot, address, options.out / f"{shot.name}.png")
                        print(options.out / f"{shot.name}.png")
    for name in KEPT:
        keep(options.out / f"{name}.png", DOCS / f"tensorboard-{name.replace('_', '-')}.png")


def train(folder: Path, *, data_root: str) -> None:
    """A run of the cnn, and a sweep of twelve runs of LeNet-5 on a part of the data."""
    data = ("data=fashion_mnist", f"data.root={data_root}")
    often = (
        "logger.images_every=200",
        "logger.histograms_every=200",
        "logger.projector_epochs=[1]",
    )
    jobs = (
        ("model=cnn", *data, *often, "trainer.epochs=3", "run.dir=run/fashion_mnist-cnn"),
        (
            "-m",
            "model=lenet5",
            *data,
            "data.train_limit=6000",
            "trainer.epochs=2",
            "optimizer.lr=0.3,0.1,0.03,0.01",
            "data.batch_size=32,64,128",
            "trainer.threads=1",
            "run.dir=sweep",
        ),
    )
    for words in jobs:
        subprocess.run([sys.executable, "-m", "trainer", "fit", *words], check=True, cwd=folder)


@contextmanager
def served(logdir: Path) -> Iterator[str]:
    """`trainer tb` on a folder; the address that it prints with the pinned metrics."""
    command = [sys.executable, "-m", "trainer", "tb", str(logdir), "port=6116"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield next(
                found[0]
                for line in process.stdout
                if (found := re.search(r"http://\S+pinnedCards\S+", line))
            )
        finally:
            process.send_signal(signal.SIGINT)


@contextmanager
def browser() -> Iterator[Chrome]:
    """Chromium without a window, drawing WebGL in software, which the projector needs."""
    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    flags = (
        "headless",
        "no-sandbox",
        "hide-scrollbars",
        "use-gl=angle",
        "use-angle=swiftshader",
        "enable-unsafe-swiftshader",
        f"window-size={SIZE[0]},{SIZE[1]}",
    )
    for flag in flags:
        options.add_argument(f"--{flag}")
    page = Chrome(
        options=options, service=ChromeService(executable_path=shutil.which("chromedriver"))
    )
    try:
        yield page
    finally:
        page.quit()


def take(page: Chrome, shot: Shot, address: str, path: Path) -> None:
    """Open a tab, wait until it shows its words and has come to rest, and keep a picture; raises
    TimeoutException.
    """
    page.get("about:blank")
    page.get(re.sub("#.*", f"#{shot.tab}", address))
    wait = WebDriverWait(page, _SECONDS)
    if shot.click:
        wait.until(lambda page: shot.click.lower() in page.execute_script(_TEXT).lower())
        page.execute_script(_CLICK, shot.click)
    wait.until(lambda page: all(word in page.execute_script(_TEXT) for word in shot.words))
    time.sleep(6 if shot.tab == "projector" else 3)  # curves grow, points fly to their places
    page.save_screenshot(str(path))


def keep(source: Path, target: Path) -> None:
    """A smaller copy with 128 colours, which a curve on white does not miss."""
    with Image.open(source) as picture:
        size = (KEPT_WIDTH, round(picture.height * KEPT_WIDTH / picture.width))
        picture.convert("RGB").resize(size, Image.Resampling.LANCZOS).quantize(128).save(
            target, optimize=True
        )


if __name__ == "__main__":
    main()
