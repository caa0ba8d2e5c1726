/* GPU instance profiles and placements. Readable with MIG mode off, as on a real H100 and H200. */
#include <stdio.h>
#include <string.h>

#include "simulator.h"

static nvmlGpuInstanceProfileInfo_t describe(const Profile *profile)
{
    return (nvmlGpuInstanceProfileInfo_t){
        .id = profile->id,
        .sliceCount = profile->compute_slices,
        .instanceCount = profile->max_instances,
        .multiprocessorCount = profile->multiprocessors,
        .copyEngineCount = profile->copy_engines,
        .decoderCount = profile->engines.decoders,
        .encoderCount = profile->engines.encoders,
        .jpegCount = profile->engines.jpegs,
        .ofaCount = profile->engines.ofas,
        .memorySizeMB = profile->memory_mib,
    };
}

static nvmlReturn_t find_profile_by_enum(State *state, nvmlDevice_t device, unsigned profile_enum,
                                         const Profile **profile)
{
    Target target;
    nvmlReturn_t answer = find_gpu(state, device, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    if (profile_enum >= NVML_GPU_INSTANCE_PROFILE_COUNT)
        return NVML_ERROR_INVALID_ARGUMENT;
    *profile = profile_by_enum(card_of(target.gpu), profile_enum);
    return *profile == NULL ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS;
}

/* An id the card does not know is a bad argument; a card without MIG supports none. */
static nvmlReturn_t find_profile_by_id(State *state, nvmlDevice_t device, unsigned id, Target *target,
                                       const Profile **profile)
{
    nvmlReturn_t answer = find_gpu(state, device, target);
    if (answer != NVML_SUCCESS)
        return answer;
    if (card_of(target->gpu)->profile_count == 0)
        return NVML_ERROR_NOT_SUPPORTED;
    *profile = profile_by_id(card_of(target->gpu), id);
    return *profile == NULL ? NVML_ERROR_INVALID_ARGUMENT : NVML_SUCCESS;
}

static nvmlReturn_t profile_info_v1(State *state, nvmlDevice_t device, unsigned profile_enum,
                                    nvmlGpuInstanceProfileInfo_t *info)
{
    const Profile *profile;
    if (info == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = find_profile_by_enum(state, device, profile_enum, &profile);
    if (answer == NVML_SUCCESS)
        *info = describe(profile);
    return answer;
}

/* Versions 2 and 3 differ in place of isP2pSupported. A successful answer has 0 where the version was asked:
 * so did the real H100 and H200. */
static void fill_versioned(const Profile *profile, unsigned version, void *info)
{
    nvmlGpuInstanceProfileInfo_t plain = describe(profile);
    nvmlGpuInstanceProfileInfo_v2_t *second = info;
    nvmlGpuInstanceProfileInfo_v3_t *third = info;
    char *name = version == GPU_INSTANCE_PROFILE_INFO_V2 ? second->name : third->name;
    if (version == GPU_INSTANCE_PROFILE_INFO_V2) {
        memset(second, 0, sizeof *second);
        memcpy(&second->id, &plain, 10 * sizeof(unsigned));
        second->memorySizeMB = plain.memorySizeMB;
    } else {
        memset(third, 0, sizeof *third);
        third->id = plain.id;
        memcpy(&third->sliceCount, &plain.sliceCount, 8 * sizeof(unsigned));
        third->memorySizeMB = plain.memorySizeMB;
    }
    snprintf(name, NVML_NAME_SIZE, "MIG %s", profile->name);
}

static nvmlReturn_t known_version(const unsigned *version)
{
    if (version == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    bool known = *version == GPU_INSTANCE_PROFILE_INFO_V2 || *version == GPU_INSTANCE_PROFILE_INFO_V3;
    return known ? NVML_SUCCESS : NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
}

static nvmlReturn_t profile_info(State *state, nvmlDevice_t device, unsigned profile_enum, unsigned *info)
{
    const Profile *profile;
    nvmlReturn_t answer = known_version(info);
    if (answer == NVML_SUCCESS)
        answer = find_profile_by_enum(state, device, profile_enum, &profile);
    if (answer == NVML_SUCCESS)
        fill_versioned(profile, *info, info);
    return answer;
}

static nvmlReturn_t profile_info_by_id(State *state, nvmlDevice_t device, unsigned id, unsigned *info)
{
    Target target;
    const Profile *profile;
    nvmlReturn_t answer = known_version(info);
    if (answer == NVML_SUCCESS)
        answer = find_profile_by_id(state, device, id, &target, &profile);
    if (answer == NVML_SUCCESS)
        fill_versioned(profile, *info, info);
    return answer;
}

/* Without an array only the number is told; with one, it must have room for all (nvml.h gives no length). */
static nvmlReturn_t possible_placements(State *state, nvmlDevice_t device, unsigned id, nvmlPlacement_t *placements,
                                        unsigned *count)
{
    Target target;
    const Profile *profile;
    if (count == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = find_profile_by_id(state, device, id, &target, &profile);
    if (answer != NVML_SUCCESS)
        return answer;
    for (unsigned index = 0; placements != NULL && index < profile->start_count; index++)
        placements[index] = (nvmlPlacement_t){profile->starts[index], profile->size};
    *count = profile->start_count;
    return NVML_SUCCESS;
}

static nvmlReturn_t remaining(State *state, nvmlDevice_t device, unsigned id, unsigned *count)
{
    Target target;
    const Profile *profile;
    if (count == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = find_profile_by_id(state, device, id, &target, &profile);
    if (answer == NVML_SUCCESS)
        *count = remaining_capacity(target.gpu, profile);
    return answer;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned profile_enum,
                                                        nvmlGpuInstanceProfileInfo_t *info)
{
    ANSWER(profile_info_v1(state, device, profile_enum, info));
}

/* `info` points at either version's structure; both begin with the version. */
EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, unsigned profile_enum, unsigned *info)
{
    ANSWER(profile_info(state, device, profile_enum, info));
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoByIdV(nvmlDevice_t device, unsigned id, unsigned *info)
{
    ANSWER(profile_info_by_id(state, device, id, info));
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t device, unsigned id,
                                                                  nvmlPlacement_t *placements, unsigned *count)
{
    ANSWER(possible_placements(state, device, id, placements, count));
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceRemainingCapacity(nvmlDevice_t device, unsigned id, unsigned *count)
{
    ANSWER(remaining(state, device, id, count));
}
