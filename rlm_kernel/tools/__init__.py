"""Host tools: functions of the caller's that cells may call, and that run on the host."""

from rlm_kernel.tools.tool import HostTool, ToolError
from rlm_kernel.tools.toolbox import Toolbox, ToolCallFailed, ToolLimits, Tools

__all__ = ["HostTool", "ToolCallFailed", "ToolError", "ToolLimits", "Toolbox", "Tools"]
