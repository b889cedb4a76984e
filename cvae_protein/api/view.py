"""Display of structures in a notebook: a page of its own in a frame, in 3D, without a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from ..core.structure import Backbone

if TYPE_CHECKING:
    from .structures import Structure

MOST_SHOWN = 12  # structures in the frame; the viewer alone takes half a megabyte
HEIGHT = 380  # pixels

PAGE = """<!doctype html><meta charset="utf-8"><style>
body { margin: 0; font: 13px system-ui, sans-serif; color: #333; background: #fff }
#view { position: relative; width: 100%; height: 330px }
select { font: inherit }
</style>
<label>structure <select id="pick"></select></label> <span id="said"></span>
<div id="view" role="img" aria-label="3D view of a structure"></div>
<script type="application/json" id="data">DATA</script>
<script>VIEWER</script>
<script>
const shapes = JSON.parse(document.getElementById("data").textContent);
const pick = document.getElementById("pick"), said = document.getElementById("said");
for (const [i, shape] of shapes.entries()) pick.add(new Option(shape.id, i));
let viewer = null;
try { viewer = $3Dmol.createViewer("view", { backgroundColor: "white" }); } catch (error) { viewer = null; }
function show() {
  const shape = shapes[pick.value];
  said.textContent = shape.said;
  if (!viewer) { document.getElementById("view").textContent = "This browser offers no WebGL."; return; }
  viewer.removeAllModels();
  viewer.addModel(shape.pdb, "pdb");
  viewer.setStyle({}, { cartoon: shape.trace ? { color: "spectrum", style: "trace" } : { color: "spectrum" } });
  viewer.zoomTo();
  viewer.render();
}
pick.addEventListener("change", show);
show();
</script>"""


@cache
def _viewer() -> str:
    return (files("cvae_protein") / "report/vendor/3Dmol-min.js").read_text(encoding="utf-8")


def page(structures: Sequence[Structure]) -> str:
    """HTML of the first structures: a frame with the 3D viewer, and how many there are in all."""
    if not len(structures):
        return "<p>no structures</p>"
    shapes = [_shape(one) for one in structures[:MOST_SHOWN]]
    text = json.dumps(shapes).replace("<", "\\u003c")  # so that nothing in it ends the script
    inside = PAGE.replace("DATA", text, 1).replace("VIEWER", _viewer(), 1)
    more = f"; the first {len(shapes)} are shown" if len(structures) > len(shapes) else ""
    frame = f'<iframe srcdoc="{escape(inside)}" style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'
    return f"<p>{escape(repr(structures).strip('<>'))}{more}</p>{frame}"


def _shape(structure: Structure) -> dict[str, object]:
    from ..io.write import pdb_text

    said = f"{len(structure)} residues" + (f", class {structure.label}" if structure.label else "")
    centred = structure.coords[:1] - np.nanmean(structure.coords[0].reshape(-1, 3), axis=0)
    numbers = tuple(str(number) for number in range(1, len(structure) + 1))
    shown = Backbone(structure.id, structure.sequence, centred, numbers)
    return {"id": structure.id, "said": said, "pdb": pdb_text([shown]), "trace": not structure.complete.any()}
