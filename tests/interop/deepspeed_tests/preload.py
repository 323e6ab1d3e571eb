# SPDX-License-Identifier: Apache-2.0
"""A plugin of pytest: the ranks of DeepSpeed's tests begin with torch and DeepSpeed imported.

Each test forks new processes from a server, which without this has imported nothing: then the
imports take more time than the tests.
"""

import multiprocessing

multiprocessing.set_forkserver_preload(
    ["deepspeed", "deepspeed.checkpoint.ds_to_universal", "torch._dynamo"])
