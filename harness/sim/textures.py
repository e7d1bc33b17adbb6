"""Textures apart from physics: they are two thirds of a LIBERO model, and only a renderer ever reads them.

An environment is built without their pixels (each texture a single one), which changes nothing else of its model; they
are read when the first frame is drawn, and given back once the GL context holds them.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from harness.sim.disk_cache import DiskCache, file_stamps
from harness.sim.engine import mujoco

_KEPT = ("name", "type", "class", "nchannel", "colorspace")
"""What a texture keeps when its pixels are left out."""
_MODEL = "texture.mjb"


def split_textures(xml: str) -> tuple[str, str]:
    """Split a model's XML: (the same without pixels, a model of nothing but its textures).

    Both have the same textures in the same order.
    """
    root = ElementTree.fromstring(xml)  # noqa: S314 - robosuite has just written it
    textures = [element for asset in root.iter("asset") for element in asset.iter("texture")]
    alone = ElementTree.Element("mujoco")
    for part in ("compiler", "default"):
        alone.extend(root.findall(part))
    ElementTree.SubElement(alone, "asset").extend([_copy(element) for element in textures])
    for element in textures:
        kept = {name: value for name, value in element.attrib.items() if name in _KEPT}
        element.attrib.clear()
        element.attrib.update(kept, builtin="flat", width="1", height="1")
    return ElementTree.tostring(root, encoding="unicode"), ElementTree.tostring(alone, encoding="unicode")


def _copy(element: ElementTree.Element) -> ElementTree.Element:
    return ElementTree.Element(element.tag, dict(element.attrib))


@dataclass(frozen=True)
class Textures:
    """The textures of one model, read when they are wanted, one by one."""

    xml: str
    """A model of nothing but them."""
    cache: DiskCache | None = None
    """Where decoded pixels are kept: PNG files of 16 million pixels take seconds."""

    def upload(self, context: Any) -> None:
        """Put them into a `mujoco.MjrContext` that was made without their pixels; it must be current."""
        root = ElementTree.fromstring(self.xml)  # noqa: S314 - see `split_textures`
        places: dict[str, list[int]] = {}
        elements = root.findall("asset/texture")
        for i, element in enumerate(elements):
            places.setdefault(_digest(element), []).append(i)
        for digest, indices in places.items():
            alone = _only(root, elements[indices[0]])
            model = self._read(digest, ElementTree.tostring(alone, encoding="unicode"))
            for i in indices:
                _upload_as(context, i, model)

    def _read(self, digest: str, xml: str) -> Any:
        """A model of one texture, decoded or as it was kept."""
        folder = self.cache.get(digest) if self.cache is not None else None
        if folder is not None:
            with contextlib.suppress(ValueError, mujoco.FatalError):
                return mujoco.MjModel.from_binary_path(str(folder / _MODEL))
        model = mujoco.MjModel.from_xml_string(xml)
        if self.cache is not None:
            self.cache.put(digest, lambda place: mujoco.mj_saveModel(model, str(place / _MODEL), None))
        return model


def _only(root: ElementTree.Element, texture: ElementTree.Element) -> ElementTree.Element:
    """A model of one of several textures."""
    alone = ElementTree.Element("mujoco")
    alone.extend(part for part in root if part.tag != "asset")
    ElementTree.SubElement(alone, "asset").append(texture)
    return alone


def _upload_as(context: Any, i: int, model: Any) -> None:
    """Upload a model's only texture as the i-th of a context: MuJoCo has one number for both."""
    names, kinds = context.texture, context.textureType
    own = names[0], kinds[0]
    names[0], kinds[0] = names[i], kinds[i]
    try:
        mujoco.mjr_uploadTexture(model, context, 0)
    finally:
        names[i], kinds[i] = names[0], kinds[0]
        names[0], kinds[0] = (names[i], kinds[i]) if i == 0 else own


def _digest(element: ElementTree.Element) -> str:
    """What decides a texture's pixels: its attributes but its name, its files as they are, and MuJoCo's version."""
    attributes = sorted((key, value) for key, value in element.attrib.items() if key != "name")
    files = file_stamps(value for key, value in attributes if key.startswith("file"))
    return hashlib.sha256(repr(("texture 1", mujoco.__version__, attributes, files)).encode()).hexdigest()
