#!/usr/bin/env bash
# What a newcomer with another Python gets: pip takes the newest releases that this Python allows, and those differ. Installs
# the light core afresh under the newest Python at hand, judges known answers, and runs the tests of what libraries change
# most: reading media.
set -euo pipefail
cd "$(dirname "$0")/.."
main=$(${PYTHON:-python3} -c 'import sys; print("%d.%d" % sys.version_info[:2])')
newest=
for version in 3.14 3.13 3.12 3.11; do
	[ "$version" = "$main" ] && continue
	for python in "python$version" "$HOME"/.pyenv/versions/"$version".*/bin/python; do
		# pyenv leaves commands in the path that only say that there is no such Python.
		if command -v "$python" >/dev/null && "$python" -c 'import venv, ensurepip' 2>/dev/null; then
			newest=$python
			break 2
		fi
	done
done
if [ -z "$newest" ]; then
	echo "No Python beside $main here: whether Faceproof runs on another was not tried."
	exit 0
fi
echo "Trying $("$newest" -V) ..."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$newest" -m venv "$folder"
bin=$folder/bin
# Copied first: a build folder would be left among the sources.
mkdir "$folder/source"
git ls-files -z pyproject.toml README.md LICENSE NOTICE src | xargs -0 cp --parents -t "$folder/source"
"$bin/python" -m pip install --quiet --disable-pip-version-check --no-compile "$folder/source[onnx,heif]" onnx pytest pytest-timeout pytest-xdist hypothesis scikit-image
"$bin/faceproof" doctor
# The installed package, not the sources beside the tests.
cp -r tests pyproject.toml "$folder/"
(cd "$folder" && FACEPROOF_CACHE=$folder/cache "$bin/python" -m pytest -q -m 'not slow and not gpu' -n 2 -p no:cacheprovider tests/media tests/test_scanning.py)
