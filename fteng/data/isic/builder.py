"""The same images and labels as a tensorflow-datasets data set, to hand on or to read elsewhere. Needs no TensorFlow.

A study does not need it: `data.source=isic` reads the folder itself, without a second copy of the images on disk. Made by

    python -m fteng.data.isic.builder --path=DIR --data_dir=OUT

it is read by `--config.data.source=tfds --config.data.name=isic_archive --config.data.path=OUT`, and by anything that reads TFDS.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from fteng.config import DataConfig
from fteng.data.isic.archive import read_isic
from fteng.data.isic.columns import FIELDS
from fteng.data.records import RecordSet
from fteng.errors import UserError, says_user_errors


class IsicArchive(tfds.core.GeneratorBasedBuilder):
    """One split, `unsplit`: how to split depends on the study, and every row carries the group that a split must not cut."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        "1.0.0": "Image, label, group, and what the archive says of age, sex, site, licence and attribution."
    }

    def __init__(self, *, record_set: RecordSet, **kwargs: Any) -> None:
        self._record_set = record_set
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        return self.dataset_info_from_configs(
            description="Dermoscopic images of the ISIC archive. Each image has its own licence and attribution.",
            homepage="https://www.isic-archive.com",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(names=sorted({record.label for record in self._record_set.records})),
                    "id": text,
                    "group": text,
                    **dict.fromkeys(FIELDS, text),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        del dl_manager  # nothing is downloaded
        return {"unsplit": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for record in self._record_set.records:
            known = {name: record.extra.get(name, "") for name in FIELDS}
            assert isinstance(record.image, Path)
            yield record.id, {"image": record.image, "label": record.label, "id": record.id, "group": record.group, **known}


def build(config: DataConfig, data_dir: Path) -> IsicArchive:
    """Write ArrayRecord files below data_dir. Raises UserError if there are no images, or it was built there before."""
    builder = IsicArchive(record_set=read_isic(config), data_dir=data_dir, file_format="array_record")
    if Path(builder.data_path).exists():
        raise UserError(f"{builder.data_path} is there already, perhaps of other images; delete it, or choose another --data_dir")
    builder.download_and_prepare()
    return builder


@says_user_errors
def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fteng.data.isic.builder", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--path", required=True, help="folder that `isic image download` wrote")
    parser.add_argument("--data_dir", default="~/tensorflow_datasets", help="where the data set goes")
    arguments = parser.parse_args()
    print(build(DataConfig(source="isic", path=arguments.path), Path(arguments.data_dir).expanduser()).info)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
