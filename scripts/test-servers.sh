#!/usr/bin/env bash
# Servers that the operations tests talk to, each in an environment of its own because their pins exclude ours: MLServer and
# KServe (Open Inference Protocol v2) and MLflow. About 1.5 GB in build/servers. Tests that need one are skipped without it.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
servers=build/servers
install() {
	local name=$1
	shift
	[ -e "$servers/$name/.made" ] && return
	echo "Installing $* into $servers/$name ..."
	"$PYTHON" -m venv "$servers/$name"
	"$servers/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
	touch "$servers/$name/.made"
}
install mlserver 'mlserver>=1.7' 'onnxruntime>=1.20'
install mlflow 'mlflow>=3.1'
install kserve 'kserve>=0.15' 'onnxruntime>=1.20'
