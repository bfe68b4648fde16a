"""For make: writes the licences of all dependencies, completes the SBOM by the C libraries, and holds it against the program.

dependencies.py TARGET PROGRAM SBOM_OF_CARGO_CYCLONEDX SBOM_TO_WRITE LICENSES_TO_WRITE
"""

import json
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

# Crate, the C library in it, its licence, and the licence's text.
C_LIBRARIES = [
    ("rdkafka-sys", "librdkafka", "BSD-2-Clause", "librdkafka/LICENSES.txt"),
    ("openssl-src", "openssl", "Apache-2.0", "openssl/LICENSE.txt"),
    ("libz-sys", "zlib", "Zlib", "src/zlib/LICENSE"),
    ("zstd-sys", "zstd", "BSD-3-Clause", "zstd/LICENSE"),
    ("tikv-jemalloc-sys", "jemalloc", "BSD-2-Clause", "jemalloc/COPYING"),
]


def audited(program):
    """Returns the packages that `cargo auditable` recorded in the section .dep-v0 of a 64-bit little-endian ELF file."""
    data = Path(program).read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01", f"{program} is no 64-bit little-endian ELF file"
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", data, table + index * size) for index in range(count)]
    strings = headers[names][4]
    for name, _, _, _, offset, length in headers:
        start = strings + name
        if data[start : data.index(b"\0", start)] == b".dep-v0":
            return json.loads(zlib.decompress(data[offset : offset + length]))["packages"]
    raise SystemExit(f"{program} has no section .dep-v0: it was not built by cargo auditable, or stripped too far")


def sources(target):
    """Returns the folder of each package by name and version."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    packages = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["packages"]
    return {(each["name"], each["version"]): Path(each["manifest_path"]).parent for each in packages}


def crate_licences(linked, listed, folders):
    """Yields each licence text with the crates that it belongs to; a crate without a text is named with its licence."""
    by_text = {}
    for key in sorted(linked):
        texts = [file.read_text(errors="replace").strip() for file in sorted(folders[key].iterdir())
                 if re.match(r"(?i)(licen[cs]e|copying|notice|unlicense)", file.name) and file.is_file()]
        expression = listed[key]["licenses"][0]["expression"]
        for text in texts or [f"The crate brings no text of its own. Its licence: {expression}"]:
            by_text.setdefault(text, []).append(f"{key[0]} {key[1]} ({expression})")
    for text, crates in by_text.items():
        yield "\n".join(crates), text


def c_libraries(packages, folders):
    """Yields name, version, licence and licence text of each C library that was compiled into the program."""
    versions = {each["name"]: each["version"] for each in packages}
    for crate, name, licence, text in C_LIBRARIES:
        version = versions[crate]  # a library that is not linked any more must be removed from the table
        folder = folders[crate, version]
        if crate == "libz-sys":
            header = (folder / "src/zlib/zlib.h").read_text()
            number = re.search(r'#define ZLIB_VERSION "([^"]+)"', header).group(1)
        else:
            number = version.split("+")[1].removeprefix("zstd.").split("-")[0]
        yield name, number, licence, (folder / text).read_text()


def main():
    target, program, source, destination, licenses = sys.argv[1:]
    packages = audited(program)
    # The root's own reference holds the folder of this checkout.
    sbom = json.loads(re.sub(r"path\+file://[^#\"]*#", "", Path(source).read_text()))
    linked = {(each["name"], each["version"]) for each in packages if each.get("kind") != "build" and not each.get("root")}
    listed = {(each["name"], each["version"]): each for each in sbom["components"]}
    missing = linked - listed.keys()
    assert not missing, f"linked, but not in the SBOM: {sorted(missing)}"

    # Macros run in the compiler, and are not part of the program.
    components = [listed[key] for key in sorted(linked)]
    kept = {each["bom-ref"] for each in components} | {sbom["metadata"]["component"]["bom-ref"]}
    folders = sources(target)
    rule = "=" * 80
    texts = [f"\n{rule}\n{crates}\n{rule}\n\n{text}\n" for crates, text in crate_licences(linked, listed, folders)]
    c_names = []
    for name, version, licence, text in c_libraries(packages, folders):
        reference = f"pkg:generic/{name}@{version}"
        c_names.append(f"{name} {version}")
        components.append({
            "type": "library", "bom-ref": reference, "name": name, "version": version, "purl": reference,
            "licenses": [{"license": {"id": licence}}],
        })
        texts.append(f"\n{rule}\n{name} {version} ({licence})\n{rule}\n\n{text}")
    compiler = subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
    components.append({"type": "library", "bom-ref": "rust-std", "name": "rust-std", "version": compiler})
    if target.endswith("-musl"):
        components.append({"type": "library", "bom-ref": "musl", "name": "musl", "description": f"as shipped with Rust {compiler}"})
    sbom["components"] = components
    sbom["dependencies"] = [
        {**each, "dependsOn": [one for one in each.get("dependsOn", []) if one in kept]}
        for each in sbom["dependencies"] if each["ref"] in kept
    ]
    Path(destination).write_text(json.dumps(sbom, indent=1) + "\n")
    Path(licenses).write_text("Licences of the crates and C libraries that nexudus-bridge is linked from\n" + "".join(texts))
    print(f"SBOM: {len(linked)} crates and {', '.join(c_names)}")


main()
