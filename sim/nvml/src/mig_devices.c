/* MIG devices: what a compute instance looks like to a program, and to NVIDIA's device plugin. */
#include "simulator.h"

/* 0 with MIG mode off and on cards without MIG, as the real H100 answered. */
static nvmlReturn_t max_count(State *state, nvmlDevice_t device, unsigned *count)
{
    Target target;
    nvmlReturn_t answer = count == NULL ? NVML_ERROR_INVALID_ARGUMENT : find_gpu(state, device, &target);
    if (answer == NVML_SUCCESS)
        *count = require_mig(target.gpu) == NVML_SUCCESS ? card_of(target.gpu)->max_instances : 0;
    return answer;
}

/* The index counts by GPU instance id, then compute instance id, so it shifts when a lower id appears; a GPU
 * instance without a compute instance is not seen here. */
static nvmlReturn_t by_index(State *state, nvmlDevice_t device, unsigned index, nvmlDevice_t *mig_device)
{
    Target target;
    nvmlReturn_t answer = mig_device == NULL ? NVML_ERROR_INVALID_ARGUMENT : find_gpu(state, device, &target);
    if (answer == NVML_SUCCESS)
        answer = has_mig(target.gpu);
    if (answer != NVML_SUCCESS)
        return answer;
    if (target.gpu->mig_current && index >= card_of(target.gpu)->max_instances)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned id = 0; id < MAX_GPU_INSTANCES; id++)
        for (unsigned compute = 0; compute < MAX_COMPUTE_INSTANCES; compute++)
            if (target.gpu->instances[id].used && target.gpu->instances[id].compute[compute].used && index-- == 0) {
                *mig_device = mig_handle(target.slot, id, compute);
                return NVML_SUCCESS;
            }
    return NVML_ERROR_NOT_FOUND;
}

static nvmlReturn_t is_mig(State *state, nvmlDevice_t device, unsigned *answer_out)
{
    Target target;
    nvmlReturn_t answer = answer_out == NULL ? NVML_ERROR_INVALID_ARGUMENT : find_either(state, device, &target);
    if (answer == NVML_SUCCESS)
        *answer_out = target.compute != NULL;
    return answer;
}

static nvmlReturn_t parent(State *state, nvmlDevice_t mig_device, nvmlDevice_t *device)
{
    Target target;
    nvmlReturn_t answer = device == NULL ? NVML_ERROR_INVALID_ARGUMENT : find_mig(state, mig_device, &target);
    if (answer == NVML_SUCCESS)
        *device = device_handle(target.slot);
    return answer;
}

static nvmlReturn_t instance_ids(State *state, nvmlDevice_t device, unsigned *gpu_instance, unsigned *compute_instance)
{
    Target target;
    nvmlReturn_t answer = find_mig(state, device, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    if (gpu_instance == NULL && compute_instance == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (gpu_instance != NULL)
        *gpu_instance = target.gpu_instance;
    if (compute_instance != NULL)
        *compute_instance = target.compute_instance;
    return NVML_SUCCESS;
}

/* NVML answers for MIG devices only. */
static nvmlReturn_t attributes(State *state, nvmlDevice_t device, nvmlDeviceAttributes_t *out)
{
    Target target;
    nvmlReturn_t answer = out == NULL ? NVML_ERROR_INVALID_ARGUMENT : find_either(state, device, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    if (target.compute == NULL)
        return NVML_ERROR_NOT_SUPPORTED;
    const Profile *profile = profile_of(&target);
    unsigned slices = target.compute->slices;
    *out = (nvmlDeviceAttributes_t){
        .multiprocessorCount = compute_multiprocessors(card_of(target.gpu), profile, slices),
        .sharedCopyEngineCount = profile->copy_engines,
        .sharedDecoderCount = profile->engines.decoders,
        .sharedEncoderCount = profile->engines.encoders,
        .sharedJpegCount = profile->engines.jpegs,
        .sharedOfaCount = profile->engines.ofas,
        .gpuInstanceSliceCount = profile->compute_slices,
        .computeInstanceSliceCount = slices,
        .memorySizeMB = profile->memory_mib,
    };
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count)
{
    ANSWER(max_count(state, device, count));
}

EXPORT nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index, nvmlDevice_t *mig_device)
{
    ANSWER(by_index(state, device, index, mig_device));
}

EXPORT nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned *answer)
{
    ANSWER(is_mig(state, device, answer));
}

EXPORT nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig_device, nvmlDevice_t *device)
{
    ANSWER(parent(state, mig_device, device));
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned *id)
{
    ANSWER(instance_ids(state, device, id, NULL));
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned *id)
{
    ANSWER(instance_ids(state, device, NULL, id));
}

EXPORT nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *out)
{
    ANSWER(attributes(state, device, out));
}
