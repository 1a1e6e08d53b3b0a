"""Write docs/report.png, the first screen of the report on results/table3_small: `python docs/make_report_picture.py`.

Needs chromium.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "analysis"))
SCREEN = {"width": 1440, "height": 900}


def main() -> None:
    """Make the page, open it and take the picture."""
    import make_report

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder, "report.html")
        if make_report.main(["--runs", str(ROOT / "results" / "table3_small"), "--out", str(page_file)]):
            raise SystemExit("error: the page could not be made, see above")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SCREEN)
        page.goto(page_file.as_uri())
        page.screenshot(path=ROOT / "docs" / "report.png")
        browser.close()


if __name__ == "__main__":
    main()
