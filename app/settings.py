"""Every setting of the service. Read from the environment: `UNROLL_` and the field's name."""

import os
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

# Each is a module of `app/kernels/runners`.
KernelName = Literal["tensorflow", "onnxruntime", "bfloat16", "cudnn"]
RunnerChoice = Literal["auto", KernelName]

Count = Annotated[int, Field(ge=1)]
Network = IPv4Network | IPv6Network
# At most a day: infinity would pass as a number here and fail where a thread waits for it.
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseSettings):
    """One field a setting; the description is its documentation (`python -m app --help`)."""

    model_config = SettingsConfigDict(env_prefix="UNROLL_", frozen=True)

    models_dir: Path = Field(Path("models"), description="folder of all models")
    model: str = Field(
        "weather",
        description="name of the model to serve, its newest version",
        # A folder in `models_dir`, and no hidden one.
        pattern=r"^[^/.\x00][^/\x00]*$",
    )
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8000, description="port; 0 for any free one"
    )

    max_body_bytes: Count = Field(
        8 << 20,
        description="bytes of a request body, and of what it unpacks to; holds 64 sequences of "
        "some 800 time steps of 9 features as JSON, 3,600 as Arrow",
    )
    max_sequences: Count = Field(
        256,
        description="sequences in a request; times UNROLL_MAX_SEQUENCE_STEPS at most "
        "UNROLL_MAX_WAITING_STEPS",
    )
    max_sequence_steps: Count = Field(
        10_000, description="time steps of a sequence; continue from its states for more"
    )
    max_waiting_sequences: Count = Field(
        4096, description="sequences waiting or running; beyond it requests are refused, not queued"
    )
    max_waiting_steps: Count = Field(
        4_000_000,
        description="time steps of the sequences waiting or running; bounds the memory they take",
    )
    body_timeout_s: Seconds = Field(
        20.0,
        description="seconds for the head of a request to arrive, and as many for its body, or for "
        "a stream's message; slower senders get 408; who reads nothing of an answer for as long is "
        "cut off",
    )
    request_timeout_s: Seconds = Field(
        60.0,
        description="seconds from a whole body to its answer, waiting included; requests may say "
        "less",
    )
    trusted_proxies: str = Field(
        "",
        description="addresses and networks, between commas, of proxies whose X-Forwarded-For "
        "tells callers apart, who take turns; all that are behind another proxy are one caller",
    )
    stop_notice_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        5.0,
        description="seconds after SIGTERM in which /readyz says 503 and all else is answered as "
        "before, with Connection: close: as long as whoever sends requests here needs to notice",
    )
    drain_timeout_s: Seconds = Field(
        30.0, description="seconds that running requests get to finish after that"
    )
    sessions_url: str = Field(
        "memory://",
        description="where sessions are kept: memory:// for as long as the service runs, or a "
        "Redis server, redis://HOST:PORT/DB, that replicas share",
        pattern="^(memory://$|rediss?://)",
    )
    max_sessions: Count = Field(10_000, description="sessions that are kept at once")
    session_idle_s: Annotated[float, Field(ge=0.001, le=31_536_000)] = Field(
        3600.0, description="seconds from the last request of a session until it is deleted"
    )
    runner: RunnerChoice = Field(
        "auto",
        description="the kernel; auto takes ONNX Runtime, or beside a GPU cuDNN, where it agrees "
        "with TensorFlow and measured faster, else TensorFlow; bfloat16 rounds what layers "
        "multiply to 8 bits, for processors that multiply such numbers",
    )
    tensor_float_32: bool = Field(
        False,
        description="whether cuDNN may round what layers multiply to 10 bits (TensorFloat-32), "
        "which GPUs multiply faster; the log tells the error",
    )
    workers: Annotated[int, Field(ge=0, le=1024)] = Field(
        0,
        description="processes that answer; 0 for one per core, or a single one beside an "
        "accelerator or where the CPU is split. Limits on what waits and runs are those of each",
    )
    lanes: Annotated[int, Field(ge=0, le=1024)] = Field(
        0,
        description="threads of a worker that run chunks; 0 for none, unless there is an "
        "accelerator (2), layers are on several devices (one for each), or the model is very large",
    )
    slots_per_lane: Annotated[int, Field(ge=0, le=4096)] = Field(
        0,
        description="sequences that run at once for each lane, and most rows of a chunk; 0 for 64, "
        "or on an accelerator for as many as use it well, up to 512",
    )
    max_chunk_steps: Annotated[int, Field(ge=1, le=4096)] = Field(
        256, description="most time steps of a chunk: newcomers wait no longer than that"
    )

    logical_devices: Annotated[int, Field(ge=1, le=64)] = Field(
        1,
        description="devices that the CPU is split into, for a model trained on several; with more "
        "than one it is run by TensorFlow, in one worker unless UNROLL_WORKERS says otherwise",
    )

    @property
    def num_workers(self) -> int:
        """Workers to start: as set, or one for each core that this process may use."""
        if self.workers:
            return self.workers
        alone = self.logical_devices > 1 or self.beside_accelerator
        return 1 if alone else available_cores()

    @property
    def proxy_networks(self) -> list[Network]:
        """`trusted_proxies`."""
        return _networks(self.trusted_proxies)

    @property
    def beside_accelerator(self) -> bool:
        """Whether there is a single worker because this machine seems to have an accelerator."""
        return not self.workers and self.logical_devices == 1 and accelerator_present()

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        _networks(text)
        return text

    @field_validator("sessions_url")
    @classmethod
    def _can_be_connected_to(cls, url: str) -> str:
        # Else no worker could start, and each would be started again and again.
        if url.startswith("redis"):
            # Loaded only where it is used.
            from app.redis_pool import connection_pool

            connection_pool(url)
        return url

    @model_validator(mode="after")
    def _a_split_cpu_is_tensorflows(self) -> Self:
        if self.logical_devices > 1 and self.runner not in ("auto", "tensorflow"):
            raise ValueError(
                f"UNROLL_LOGICAL_DEVICES={self.logical_devices} is for TensorFlow, but "
                f"UNROLL_RUNNER={self.runner}: that does not use them"
            )
        return self

    @model_validator(mode="after")
    def _tensor_float_32_is_cudnns(self) -> Self:
        if self.tensor_float_32 and self.runner not in ("auto", "cudnn"):
            raise ValueError(
                f"UNROLL_TENSOR_FLOAT_32=true is for cuDNN, but UNROLL_RUNNER={self.runner}"
            )
        return self

    @model_validator(mode="after")
    def _one_request_fits(self) -> Self:
        if self.max_sequences > self.max_waiting_sequences:
            raise ValueError(
                f"UNROLL_MAX_SEQUENCES={self.max_sequences} is more than "
                f"UNROLL_MAX_WAITING_SEQUENCES={self.max_waiting_sequences}: "
                "such a request could never be taken"
            )
        if self.max_sequences * self.max_sequence_steps > self.max_waiting_steps:
            raise ValueError(
                f"UNROLL_MAX_SEQUENCES={self.max_sequences} times "
                f"UNROLL_MAX_SEQUENCE_STEPS={self.max_sequence_steps} is more than "
                f"UNROLL_MAX_WAITING_STEPS={self.max_waiting_steps}: "
                "such a request could never be taken"
            )
        return self


def _networks(text: str) -> list[Network]:
    return [ip_network(part.strip()) for part in text.split(",") if part.strip()]


# Drivers of NVIDIA and AMD. A worker for each core would have each load the model onto the device.
ACCELERATORS = (Path("/dev/nvidiactl"), Path("/dev/kfd"))


def accelerator_present() -> bool:
    """Whether this machine seems to have an accelerator that TensorFlow can use."""
    return any(path.exists() for path in ACCELERATORS)


def available_cores(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores that this process may use: its affinity, or its container's quota if that is less."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text().split()
        return min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        # No such file, or "max": no quota.
        return cores
