"""Write a page and a picture for every update rule into docs/rules: python docs/make_rules.py

The pages have the content of `optrial explain`. Every build writes them; they are not committed.
"""

from __future__ import annotations

from pathlib import Path

from optrial.explain.files import write_rule_docs

if __name__ == "__main__":
    write_rule_docs(Path(__file__).with_name("rules"))
