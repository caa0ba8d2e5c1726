/* Knobs of the simulated NVML: what a test or a demo does to the "hardware" behind the library.
 *
 * Every function works on the state file behind a handle from nvmlSimOpen, under its lock, so it can be used
 * from any process and on several states at once. Answers are NVML's return codes.
 * GPUs and MIG devices are named by UUID ("GPU-…", "MIG-…") as NVML gives them.
 *
 * NVML itself is told by two environment variables: NVMLSIM_STATE, the state file, and NVMLSIM_ROOT, the host
 * root below which it keeps the kernel module's /proc files (default: the root given at creation, which is also
 * the one the knobs use).
 */
#ifndef NVMLSIM_H
#define NVMLSIM_H

#include <stdint.h>

typedef struct nvmlSimHandle nvmlSimHandle;

enum {
    NVMLSIM_CODES = 64, /* refusals by NVML return code; larger codes (999) are counted in the last place */
    NVMLSIM_SLICES = 64,
};

typedef struct {
    uint64_t refusals[NVMLSIM_CODES]; /* every answer but success, the end of an enumeration included */
    uint64_t gpu_instances_created, gpu_instances_destroyed;
    uint64_t compute_instances_created, compute_instances_destroyed;
    uint64_t destroyed_in_use_attempts; /* destroys of an instance with a process on it: all were refused */
    uint64_t mode_changes;
} nvmlSimCounters;

typedef struct {
    uint32_t gpu_instance, compute_instance; /* compute_instance 0xFFFFFFFF: the GPU instance has none */
    uint32_t profile_id, start, size;
    uint32_t compute_slices, gpu_slices; /* equal: full width */
    uint32_t processes;
    char profile[32], uuid[48]; /* uuid is empty without a compute instance */
} nvmlSimSlice;

typedef struct {
    uint32_t index, minor, mig_current, mig_pending, lost, processes, slice_count;
    char card[40], uuid[48], pci_bus_id[32];
    nvmlSimSlice slices[NVMLSIM_SLICES];
} nvmlSimGpu;

/* Make a new state file in place of whatever is at `path`, with no GPUs, and the /proc files below `root`
 * (empty: none). */
int nvmlSimCreate(const char *path, const char *root, const char *driver_version);
int nvmlSimOpen(const char *path, nvmlSimHandle **handle);
void nvmlSimClose(nvmlSimHandle *handle);

/* The key of the card at `index`, or NULL after the last. */
const char *nvmlSimCardKey(unsigned index);
int nvmlSimAddGpu(nvmlSimHandle *handle, const char *card, const char *pci_bus_id, unsigned minor, const char *uuid);

/* Faults of one entry point, by its exported name ("nvmlDeviceCreateGpuInstanceWithPlacement").
 * Latency is slept in the calling process, outside the lock. `nth` 1 is the next call; 0 takes it back.
 * A hung entry point blocks its callers until it is released; nvmlSimHungCalls says how many came into it
 * since it was hung and have not gone on. */
int nvmlSimSetLatency(nvmlSimHandle *handle, const char *entry, unsigned microseconds);
int nvmlSimFailNth(nvmlSimHandle *handle, const char *entry, unsigned nth, int code);
int nvmlSimSetHung(nvmlSimHandle *handle, const char *entry, unsigned hung);
int nvmlSimHungCalls(nvmlSimHandle *handle, const char *entry, unsigned *count);

/* Processes: on a slice (MIG UUID) or on the whole GPU (GPU UUID); memory in bytes. */
int nvmlSimAddProcess(nvmlSimHandle *handle, const char *uuid, unsigned pid, uint64_t memory);
int nvmlSimRemoveProcess(nvmlSimHandle *handle, const char *uuid, unsigned pid);

/* An event as nvmlEventSetWait_v2 gives it; for an XID `type` is 8 and `data` the XID. An XID is also written to
 * the kernel's log, ROOT/dev/kmsg, which ends with a reboot. */
int nvmlSimInjectEvent(nvmlSimHandle *handle, const char *uuid, uint64_t type, uint64_t data);

/* Reboot: processes and instances go everywhere; MIG mode goes on Hopper and later, and becomes the pending
 * one on Ampere. Reset: the same for one GPU, mode pending -> current; refused with IN_USE under processes. */
int nvmlSimReboot(nvmlSimHandle *handle);
int nvmlSimResetGpu(nvmlSimHandle *handle, const char *uuid);

int nvmlSimSetPrivileged(nvmlSimHandle *handle, unsigned privileged);
int nvmlSimSetLost(nvmlSimHandle *handle, const char *uuid, unsigned lost);
/* Uncorrectable ECC errors since the last reset: of a slice those of its SRAM, of a GPU those of its memory. */
int nvmlSimSetEccErrors(nvmlSimHandle *handle, const char *uuid, unsigned count);
/* Whether rows wait for a reset to be remapped, and whether remapping one has ever failed (which a reset keeps). */
int nvmlSimSetRemapping(nvmlSimHandle *handle, const char *uuid, unsigned pending, unsigned failed);
/* What the driver wants done about the GPU: nvmlDeviceGpuRecoveryAction_t, 0 is nothing. */
int nvmlSimSetRecoveryAction(nvmlSimHandle *handle, const char *uuid, unsigned action);
int nvmlSimSetDriverVersion(nvmlSimHandle *handle, const char *version);
/* The major number of nvidia-caps: the kernel gives it out anew when the module is loaded. */
int nvmlSimSetCapabilityMajor(nvmlSimHandle *handle, unsigned major);

int nvmlSimReadCounters(nvmlSimHandle *handle, nvmlSimCounters *counters);
/* The GPU at NVML index `index`, with its slices by GPU instance id; NOT_FOUND after the last. */
int nvmlSimReadGpu(nvmlSimHandle *handle, unsigned index, nvmlSimGpu *gpu);

#endif
