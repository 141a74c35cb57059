"""Writes the disk that a file of loopbox stands for: python3 read-chain.py FILE OUT [DIRECTORY…]. It knows docs/format.md and
shares no code with loopbox. Parents are looked for beside FILE, then in the other directories."""
import glob, json, os, struct, sys

MIB, BLOCK, SLOT = 1 << 20, 4096, 32 << 10

def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF

def manifest_at(file, position):
    newest = -1, None
    for place in position, position + SLOT:
        slot = file.seek(place) == place and file.read(SLOT)
        magic, major, _, length, generation, _, crc = struct.unpack("<8sHHIQII", slot[-32:].rjust(32))
        if magic == b"LOOPBOXM" and major == 1 and length <= SLOT - 32 and crc == crc32c(slot[:length] + slot[-32:-4]):
            newest = max(newest, (generation, slot[:length]), key=lambda one: one[0])
    return newest[1] and json.loads(newest[1])

def manifest_of(path):
    with open(path, "rb") as file:
        size, head = file.seek(0, 2), file.seek(1080) and file.read(2)
        if head != b"\x53\xef":  # no file system: a delta, or nothing of ours
            return manifest_at(file, 0)
        places = [size - 2 * SLOT, *range(size // MIB * MIB, 0, -MIB)]
        found = ((place, manifest_at(file, place)) for place in places if place > 0 and place % MIB == 0)
        return next((manifest for place, manifest in found if manifest and manifest["sizeBytes"] == place), None)

def below(path):
    """What a delta stands on, and the first block that its own map counts for."""
    mine, owner = files[path], lambda path: path[: path.rfind(".")].split("@")[0]
    for image, fold in ((image, files[image].get("fold", {})) for image in files if owner(image) == owner(path)):
        is_named = mine["state"] in (fold.get("to"), fold.get("keep"))
        if is_named and (files[image]["kind"] == "image" or mine["parent"]["state"] == fold["was"]):
            return image, fold["cursor"] if mine["state"] == fold["to"] else 0
    same = [other for other in files if other != path and files[other]["state"] == mine["parent"]["state"]]
    same = [p for p in same if "sealed" in files[p] or (owner(p) == owner(path) and "@" in os.path.basename(p))]
    places = [os.path.dirname(other) for other in files]  # in the order in which they were looked at
    rank = lambda p: ("sealed" not in files[p], owner(p) != owner(path), places.index(os.path.dirname(p)), files[p]["kind"] == "delta")
    return min(same, key=rank), 0

(path, out, *others), layers = sys.argv[1:], []
paths = [found for place in [os.path.dirname(path), *others] for found in sorted(glob.glob(place + "/*")) if not found.endswith(".next")]
files = {path: manifest for path in paths if os.path.isfile(path) and not os.path.islink(path) and (manifest := manifest_of(path))}
while path:
    next_path, cursor = below(path) if files[path]["kind"] == "delta" else (None, 0)
    layers, path = layers + [(files[path], open(path, "rb"), cursor)], next_path
maps = [m["kind"] == "delta" and file.seek(m["mapOffset"]) and file.read(m["mapBytes"]) for m, file, _ in layers]
with open(out, "wb") as disk:
    for block in range(layers[0][0]["sizeBytes"] // BLOCK):
        for (m, file, cursor), bits in zip(layers, maps):
            ends = block * BLOCK >= m["sizeBytes"]  # a view ends at the V of each layer that it passes
            if ends or not bits or (block >= cursor and bits[block // 8] >> block % 8 & 1):
                break
        disk.write(bytes(BLOCK) if ends else os.pread(file.fileno(), BLOCK, m.get("dataOffset", 0) + block * BLOCK))
