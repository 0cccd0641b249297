"""RunPod for Styx."""

from styx_runpod.driver import RunPod, RunPodConfig

__all__ = ["RunPod", "RunPodConfig"]
