"""Torch modules that classify: they know nothing of files' layouts or of training."""

import os

# before its import: ONNX Runtime sends telemetry from version 1.29 on, and keeps an id of the machine
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
