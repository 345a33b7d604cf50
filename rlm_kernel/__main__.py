"""Let `python -m rlm_kernel` be `rlm-kernel`."""

from rlm_kernel.cli import main

main()
