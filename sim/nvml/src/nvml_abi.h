/* The part of NVML's binary interface that MIG needs, written from the layouts nvidia-ml-py 13 uses.
 *
 * Handles are opaque pointers in NVML; here they are tagged integers of the same width, so that a handle
 * means the same in every process (handles.c).
 */
#ifndef NVML_ABI_H
#define NVML_ABI_H

#include <stdint.h>

typedef int nvmlReturn_t;

enum {
    NVML_SUCCESS = 0,
    NVML_ERROR_UNINITIALIZED = 1,
    NVML_ERROR_INVALID_ARGUMENT = 2,
    NVML_ERROR_NOT_SUPPORTED = 3,
    NVML_ERROR_NO_PERMISSION = 4,
    NVML_ERROR_NOT_FOUND = 6,
    NVML_ERROR_INSUFFICIENT_SIZE = 7,
    NVML_ERROR_DRIVER_NOT_LOADED = 9,
    NVML_ERROR_TIMEOUT = 10,
    NVML_ERROR_GPU_IS_LOST = 15,
    NVML_ERROR_RESET_REQUIRED = 16,
    NVML_ERROR_OPERATING_SYSTEM = 17,
    NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18,
    NVML_ERROR_IN_USE = 19,
    NVML_ERROR_MEMORY = 20,
    NVML_ERROR_INSUFFICIENT_RESOURCES = 23,
    NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25,
    NVML_ERROR_UNKNOWN = 999,
};

enum {
    NVML_UUID_TEXT_SIZE = 41, /* "GPU-" or "MIG-", 36 characters, and the closing zero */
    NVML_NAME_SIZE = 96,
    NVML_GPU_INSTANCE_PROFILE_COUNT = 0x12,
    NVML_COMPUTE_INSTANCE_PROFILE_COUNT = 0x9,
    NVML_WHOLE_GPU = -1, /* 0xFFFFFFFF as an instance id: not in a slice */
};

/* Version tags carry the structure's size in the low bytes and its number in the top byte. */
#define GPU_INSTANCE_PROFILE_INFO_V2 0x02000098u
#define GPU_INSTANCE_PROFILE_INFO_V3 0x03000098u
#define COMPUTE_INSTANCE_PROFILE_INFO_V2 0x02000088u
#define COMPUTE_INSTANCE_PROFILE_INFO_V3 0x0300008cu
#define MEMORY_V2 0x02000028u
#define GPU_FABRIC_INFO_V2 0x02000024u
#define GPU_FABRIC_INFO_V3 0x03000028u

typedef uintptr_t nvmlDevice_t;
typedef uintptr_t nvmlGpuInstance_t;
typedef uintptr_t nvmlComputeInstance_t;
typedef uintptr_t nvmlEventSet_t;

typedef struct {
    unsigned start, size; /* memory slots of a GPU instance, compute slices of a compute instance */
} nvmlPlacement_t;

typedef struct {
    unsigned id, isP2pSupported, sliceCount, instanceCount, multiprocessorCount;
    unsigned copyEngineCount, decoderCount, encoderCount, jpegCount, ofaCount;
    unsigned long long memorySizeMB;
} nvmlGpuInstanceProfileInfo_t;

typedef struct {
    unsigned version, id, isP2pSupported, sliceCount, instanceCount, multiprocessorCount;
    unsigned copyEngineCount, decoderCount, encoderCount, jpegCount, ofaCount;
    unsigned long long memorySizeMB;
    char name[NVML_NAME_SIZE];
} nvmlGpuInstanceProfileInfo_v2_t;

typedef struct {
    unsigned version, id, sliceCount, instanceCount, multiprocessorCount;
    unsigned copyEngineCount, decoderCount, encoderCount, jpegCount, ofaCount;
    unsigned long long memorySizeMB;
    char name[NVML_NAME_SIZE];
    unsigned capabilities;
} nvmlGpuInstanceProfileInfo_v3_t;

typedef struct {
    unsigned id, sliceCount, instanceCount, multiprocessorCount;
    unsigned copyEngineCount, decoderCount, encoderCount, jpegCount, ofaCount;
} nvmlComputeInstanceProfileInfo_t;

typedef struct {
    unsigned version;
    nvmlComputeInstanceProfileInfo_t info;
    char name[NVML_NAME_SIZE];
    unsigned capabilities; /* from version 3 on */
} nvmlComputeInstanceProfileInfo_v3_t;

typedef struct {
    nvmlDevice_t device;
    unsigned id, profileId;
    nvmlPlacement_t placement;
} nvmlGpuInstanceInfo_t;

typedef struct {
    nvmlDevice_t device; /* the MIG device that the compute instance makes */
    nvmlGpuInstance_t gpuInstance;
    unsigned id, profileId;
    nvmlPlacement_t placement;
} nvmlComputeInstanceInfo_t;

typedef struct {
    unsigned multiprocessorCount, sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount;
    unsigned sharedJpegCount, sharedOfaCount, gpuInstanceSliceCount, computeInstanceSliceCount;
    unsigned long long memorySizeMB;
} nvmlDeviceAttributes_t;

typedef struct {
    char busIdLegacy[16];
    unsigned domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} nvmlPciInfo_t;

typedef struct {
    unsigned long long total, free, used; /* bytes */
} nvmlMemory_t;

typedef struct {
    unsigned version;
    unsigned long long total, reserved, free, used; /* bytes */
} nvmlMemory_v2_t;

typedef struct {
    unsigned pid;
    unsigned long long usedGpuMemory; /* bytes */
    unsigned gpuInstanceId, computeInstanceId;
} nvmlProcessInfo_t;

typedef struct {
    nvmlDevice_t device;
    unsigned long long eventType, eventData;
    unsigned gpuInstanceId, computeInstanceId;
} nvmlEventData_t;

typedef struct {
    unsigned fieldId, scopeId;
    long long timestamp, latencyUsec;
    unsigned valueType;
    nvmlReturn_t nvmlReturn;
    unsigned long long value; /* a union in NVML; the smaller members lie at its start */
} nvmlFieldValue_t;

typedef struct {
    unsigned char clusterUuid[16];
    nvmlReturn_t status;
    unsigned cliqueId, state;
} nvmlGpuFabricInfo_t;

typedef struct {
    unsigned version;
    unsigned char clusterUuid[16];
    nvmlReturn_t status;
    unsigned cliqueId, state, healthMask;
    unsigned char healthSummary; /* from version 3 on */
} nvmlGpuFabricInfo_v3_t;

_Static_assert(sizeof(nvmlGpuInstanceProfileInfo_v2_t) == 0x98, "version tag carries the size");
_Static_assert(sizeof(nvmlGpuInstanceProfileInfo_v3_t) == 0x98, "version tag carries the size");
_Static_assert(sizeof(nvmlComputeInstanceProfileInfo_v3_t) == 0x8c, "version tag carries the size");
_Static_assert(sizeof(nvmlFieldValue_t) == 0x28, "as nvidia-ml-py lays it out");
_Static_assert(sizeof(nvmlMemory_v2_t) == 0x28, "version tag carries the size");
_Static_assert(sizeof(nvmlGpuFabricInfo_v3_t) == 0x28, "version tag carries the size");

#endif
