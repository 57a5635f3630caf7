# SPDX-License-Identifier: Apache-2.0
"""A client of etagd, written from docs/protocol.md alone, with the standard library alone: the proof that the page says enough. It
favours being read over being fast, and says "unknown" as the page does.
"""
import array
import ctypes
import errno
import fcntl
import mmap
import os
import re
import secrets
import socket
import stat
import struct
import time

CLOCK_MONOTONIC_COARSE = 6
MASK = (1 << 64) - 1


def coarse_ns():
    return time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE)


# ---- Protobuf, as far as it is used ----

def varint(number):
    out = bytearray()
    while number > 0x7f:
        out.append(number & 0x7f | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def number(no, value):
    return varint(no << 3) + varint(value) if value else b""


def fixed(no, value):
    return varint(no << 3 | 1) + struct.pack("<Q", value) if value else b""


def data(no, value):
    return varint(no << 3 | 2) + varint(len(value)) + value


def some(no, value):
    """Left out where it is empty."""
    return data(no, value) if value else b""


def fields_of(message):
    """Number to list of values."""
    found, at = {}, 0

    def take():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = take()
        if tag & 7 == 0:
            value = take()
        elif tag & 7 == 1:
            value, at = struct.unpack_from("<Q", message, at)[0], at + 8
        else:
            length = take()
            value, at = message[at:at + length], at + length
        found.setdefault(tag >> 3, []).append(value)
    return found


def first(fields, no, otherwise=0):
    return fields.get(no, [otherwise])[0]


# ---- Names ----

class BadName(ValueError):
    pass


UNRESERVED = set(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
RAW = UNRESERVED | set(b"!$&'()*+,;=:@/")


def canonical_host(host):
    if not host:
        return b""
    found = re.fullmatch(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::([0-9]*))?", host)
    if not found:
        raise BadName("host")
    name, port = found.group(1).lower(), found.group(2)
    if name[:1] == b"[":
        try:
            socket.inet_pton(socket.AF_INET6, name[1:-1].decode())
        except OSError:
            raise BadName("IPv6 address") from None
    else:
        name = name.removesuffix(b".")
        if b"" in name.split(b"."):
            raise BadName("empty label")
    port = port.lstrip(b"0") or port[-1:] if port else b""
    if port and (len(port) > 5 or int(port) > 65535):
        raise BadName("port")
    whole = name + (b":" + port if port and port not in (b"80", b"443") else b"")
    if len(whole) > 255:
        raise BadName("host too long")
    return whole


def forbidden(text):
    return any(byte <= 0x20 or byte == 0x7f or byte == 0x23 for byte in text)


def remove_dot_segments(path):
    out = []
    segments = path.split(b"/")[1:]
    for at, segment in enumerate(segments):
        last = at == len(segments) - 1
        if segment in (b".", b".."):
            if segment == b".." and out:
                out.pop()
            if last:
                out.append(b"")
        else:
            out.append(segment)
    return b"/" + b"/".join(out)


def canonical_target(target):
    if target[:1] != b"/" or len(target) > 4096:
        raise BadName("target")
    path, mark, query = target.partition(b"?")
    if forbidden(path) or forbidden(query):
        raise BadName("forbidden byte")
    out, at = bytearray(), 0
    while at < len(path):
        byte = path[at]
        if byte == 0x25:
            digits = path[at + 1:at + 3]
            if not re.fullmatch(rb"[0-9A-Fa-f]{2}", digits):
                raise BadName("escape")
            value, at = int(digits, 16), at + 3
            out += bytes([value]) if value in UNRESERVED else b"%%%02X" % value
        else:
            out += bytes([byte]) if byte in RAW else b"%%%02X" % byte
            at += 1
    whole = remove_dot_segments(bytes(out)) + mark + query
    if len(whole) > 4096:
        raise BadName("target too long")
    return whole


def has_dot_segments(target):
    """As the most generous server reads it: everything unescaped, a backslash is a slash, a segment ends at ';' too."""
    path = re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found.group(1), 16)]), target.partition(b"?")[0])
    return any(segment.partition(b";")[0] in (b".", b"..") for segment in re.split(rb"[/\\\\]", path))


TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Key:
    """scope: None is public. vary: pairs of name and value, None for a field that the request does not have."""

    def __init__(self, host, target, scope=None, release=b"", vary=(), scheme=b""):
        self.host, self.target = canonical_host(host), canonical_target(target)
        if has_dot_segments(target):
            raise BadName("dot segments")
        self.scope, self.release, self.scheme = scope, release, scheme.lower()
        if len(scheme) > 16 or not re.fullmatch(rb"([A-Za-z][A-Za-z0-9+.-]*)?", scheme):
            raise BadName("scheme")
        self.vary = sorted((name.lower(), value) for name, value in vary)
        if len(release) > 255 or (scope is not None and not 1 <= len(scope) <= 255):
            raise BadName("scope or release")
        if len(vary) > 16 or len({name for name, _ in self.vary}) < len(vary):
            raise BadName("vary")
        if any(not TOKEN.fullmatch(name) or len(name) > 64 or len(value or b"") > 1024 for name, value in self.vary):
            raise BadName("vary field")

    def canonical(self):
        scope = self.scope or b""
        out = struct.pack("<HBBBBBB", len(self.target), len(self.host), len(scope), len(self.release),
                          2 if self.scope else 1, len(self.vary), len(self.scheme)) + self.host + self.target + scope + self.release + self.scheme
        for name, value in self.vary:
            out += struct.pack("<HH", len(name), 65535 if value is None else len(value)) + name + (value or b"")
        return out

    def words(self):
        """What the fingerprint hashes: what a site's keys have alike, then the rest."""
        def part(text):
            rest = len(text) % 8
            return text[:len(text) - rest] + (text[-8:] if len(text) > 8 else text.ljust(8, b"\0")) if rest else text
        scope = self.scope or b""
        out = struct.pack("<HBBBBBB", 0, len(self.host), 0, len(self.release), 0, len(self.vary), len(self.scheme))
        out += part(self.host) + part(self.release) + part(self.scheme)
        out += b"".join(struct.pack("<Q", len(name)) + part(name) for name, _ in self.vary)
        out += struct.pack("<HBBBBBB", len(self.target), 0, len(scope), 0, 2 if self.scope else 1, 0, 0)
        out += part(self.target) + part(scope)
        return out + b"".join(struct.pack("<Q", 65535 if value is None else len(value)) + part(value or b"") for _, value in self.vary)

    def message(self):
        vary = b"".join(data(5, data(1, name) + (b"" if value is None else data(2, value))) for name, value in self.vary)
        return (data(1, some(1, self.host) + data(2, self.target)) + number(2, 2 if self.scope else 1)
                + some(3, self.scope or b"") + some(4, self.release) + vary + some(6, self.scheme))


def rol(word, bits):
    return (word << bits | word >> 64 - bits) & MASK


class SipHash13:
    def __init__(self, key, text, wide, length=True):
        """length: the last word has the length of the text; else the text is whole words."""
        k0, k1 = struct.unpack("<QQ", key)
        self.v = [k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573]
        self.v[1] ^= 0xee if wide else 0
        rest = len(text) % 8
        whole = text[:len(text) - rest]
        last = text[len(text) - rest:].ljust(7, b"\0") + bytes([len(text) & 0xff]) if length else b""
        for word in struct.unpack(f"<{len(whole + last) // 8}Q", whole + last):
            self.v[3] ^= word
            self.round()
            self.v[0] ^= word
        self.v[2] ^= 0xee if wide else 0xff

    def round(self):
        v0, v1, v2, v3 = self.v
        v0 = v0 + v1 & MASK
        v1 = rol(v1, 13) ^ v0
        v0 = rol(v0, 32)
        v2 = v2 + v3 & MASK
        v3 = rol(v3, 16) ^ v2
        v0 = v0 + v3 & MASK
        v3 = rol(v3, 21) ^ v0
        v2 = v2 + v1 & MASK
        v1 = rol(v1, 17) ^ v2
        v2 = rol(v2, 32)
        self.v = [v0, v1, v2, v3]

    def word(self):
        for _ in range(3):
            self.round()
        return self.v[0] ^ self.v[1] ^ self.v[2] ^ self.v[3]


def fingerprint(hash_key, key):
    """low, high"""
    hashed = SipHash13(hash_key, key.words(), wide=True, length=False)
    low = hashed.word()
    hashed.v[1] ^= 0xdd
    high = hashed.word()
    return (low or 1 if high == 0 else low), high


GROUPS = 128
NO_KEY = bytes(16)


def surrogate_name(name):
    """The name that is sent for one that a site uses."""
    name = name.strip(b",;") or name[:1]
    if len(name) > 255:
        name = re.split(rb"[,;]", name)[0]
    if len(name) <= 255 and max(name) < 0x7f:
        return name
    hashed = SipHash13(NO_KEY, name, wide=True)
    low = hashed.word()
    hashed.v[1] ^= 0xdd
    return b"~hash-%016x%016x" % (hashed.word(), low)


def group_of(name):
    return SipHash13(NO_KEY, name, wide=False).word() % GROUPS


def surrogates_of(names):
    """What an entry is filled with that depends on all of them."""
    names = {surrogate_name(name) for name in names}
    return sorted(names) if len(names) <= 128 else sorted({b"~group-%d" % group_of(name) for name in names})


def clock_of(hash_key, clock_count, kind, one, two=b""):
    group = re.fullmatch(rb"~group-(0|[1-9]\d{0,2})", one) if kind == b"s" else None
    if group and int(group.group(1)) < GROUPS:
        return 1 + int(group.group(1))
    hashed = SipHash13(hash_key, kind + struct.pack("<H", len(one)) + one + two, wide=False).word()
    families = clock_count // 16
    if kind == b"f":
        return 2 + GROUPS + (hashed * families >> 64)
    return 2 + GROUPS + families + (hashed * (clock_count - 2 - GROUPS - families) >> 64)


def family_of(name):
    family = name.split(b":")[0]
    return family.strip(b",;") or family[:1]


def family_clocks(hash_key, clock_count, names):
    """Those of the families of an entry's surrogate keys."""
    group = re.compile(rb"~group-(0|[1-9]\d{0,2})")
    hidden = any(name.startswith((b":", b"~hash-")) or group.fullmatch(name) for name in names)
    families = {family_of(name) for name in names if b":" in name}
    if hidden or len(families) > 16:
        return {1 + GROUPS}
    return {clock_of(hash_key, clock_count, b"f", family) for family in families}


# ---- The shared memory ----

NO_DATE = -(1 << 63)
NEVER = MASK


class Index:
    def __init__(self, descriptor, size, incarnation_id):
        seals = fcntl.fcntl(descriptor, 1034)  # F_GET_SEALS
        if seals & 6 != 6 or os.fstat(descriptor).st_size != size:  # F_SEAL_SHRINK, F_SEAL_GROW
            raise ValueError("the index is not sealed, or has another size")
        self.memory = mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ)
        header = self.memory[:4096]
        (magic, version, header_bytes, total, self.slots, self.details, self.clocks, self.pool, self.homes, self.clock_count,
         self.units, self.incarnation, self.incarnation_id) = struct.unpack_from("<QIIQQQQQQIIQQ", header)
        self.hash_key, self.lease_ns = header[88:104], struct.unpack_from("<Q", header, 104)[0]
        slot_bytes = (self.homes + 31) * 64
        places = [(4096, 0), (self.slots, slot_bytes), (self.details, slot_bytes), (self.clocks, self.clock_count * 8),
                  (self.pool, self.units * 64), (total, 0)]
        fits = all(at % 64 == 0 and at + length <= after for (at, length), (after, _) in zip(places, places[1:]))
        if (magic != 0x5844496467617465 or version != 2 or header_bytes != 4096 or total > size or not fits
                or not 1 <= self.homes <= 1533916892 or self.clock_count not in [1 << n for n in range(10, 25)]
                or self.units < 1 or incarnation_id != self.incarnation_id):
            raise ValueError("this is no index of layout version 2")

    def word(self, offset):
        return struct.unpack_from("<Q", self.memory, offset)[0]

    def half(self, offset):
        return struct.unpack_from("<I", self.memory, offset)[0]

    def lease(self):
        return self.word(2048)

    def token(self):
        return self.incarnation_id, self.word(2112)

    def record(self, unit, length_at):
        """A copy of the record, b"" where there is none within the pool."""
        if not 0 < unit < self.units:
            return b""
        at = self.pool + unit * 64
        length = struct.unpack_from("<H", self.memory, at + length_at)[0]
        return self.memory[at:at + length] if length <= min(2048, (self.units - unit) * 64) else b""

    def copy(self, slot):
        """Steps 4 to 6: the entry with the values of its clocks, or None where it is torn."""
        at = self.slots + slot * 64
        for _ in range(8):
            before = self.half(at)
            if before & 1:
                continue
            words = self.memory[at:at + 64]
            detail = self.memory[self.details + slot * 64:self.details + slot * 64 + 64]
            fieldset, overflow = struct.unpack_from("<II", detail, 8)
            entry = self.decode(words, detail, self.record(overflow, 6), self.record(fieldset, 0))
            if entry:
                entry["values"] = [self.word(self.clocks + 8 * clock) for clock in entry["clocks"]]
            if self.half(at) == before:
                return entry
        return None

    def look_up(self, key):
        """(reason, entry): entry is a dictionary where the reason is "valid"."""
        deadline = self.lease()
        reason, entry = self.state(key)
        now = coarse_ns()
        if now >= deadline:
            return "no_lease", None
        if reason == "valid" and now >= entry["expires_ns"]:
            return "expired", None
        return reason, entry

    def state(self, key):
        low, high = fingerprint(self.hash_key, key)
        home = high * self.homes >> 64
        hop = self.half(self.slots + home * 64 + 4)
        for bit in range(32):
            slot = home + bit
            if not hop >> bit & 1 or struct.unpack_from("<QQ", self.memory, self.slots + slot * 64 + 8) != (low, high):
                continue
            entry = self.copy(slot)
            if entry is None:
                return "torn", None
            if entry["fingerprint"] != (low, high):
                continue
            newer = [value for value in entry["values"] if value > entry["fill_lsn"]]
            if newer:
                return ("in_flux" if max(newer) >> 63 else "stale"), None
            return "valid", entry
        return "no_entry", None

    def decode(self, words, detail, overflow, fieldset):
        """None where a length or a number is wrong."""
        low, high, fill_lsn, expires_ns = struct.unpack_from("<QQQQ", words, 8)
        clocks = [0] + [int.from_bytes(words[40 + 3 * i:43 + 3 * i], "little") for i in range(8)]
        last_modified, fieldset_unit, overflow_unit, etag_len = struct.unpack_from("<qIIH", detail)
        etag, location = (detail[20:20 + etag_len] if etag_len <= 44 else b""), b""
        if overflow_unit:
            if len(overflow) < 8:
                return None
            tag_len, location_len, clock_count = struct.unpack_from("<HHH", overflow)
            if 8 + 4 * clock_count + tag_len + location_len != len(overflow):
                return None
            clocks += struct.unpack_from(f"<{clock_count}I", overflow, 8)
            texts = overflow[8 + 4 * clock_count:]
            etag, location = (texts[:tag_len] if tag_len else etag), texts[tag_len:]
        fields = fields_in(fieldset) if fieldset_unit else []
        if len(etag) != etag_len or fields is None or max(clocks) >= self.clock_count:
            return None
        return {"fingerprint": (low, high), "fill_lsn": fill_lsn, "expires_ns": expires_ns, "clocks": clocks, "etag": etag,
                "last_modified": None if last_modified == NO_DATE else last_modified, "content_location": location,
                "fields": fields}


def fields_in(record):
    """Name and value of the fields that a 304 repeats; of Expires the seconds after Date."""
    if len(record) < 4:
        return None
    fields, at = [], 4
    for _ in range(record[2]):
        if at + 4 > len(record):
            return None
        kind, name_len, value_len = struct.unpack_from("<BBH", record, at)
        name, value = record[at + 4:at + 4 + name_len], record[at + 4 + name_len:at + 4 + name_len + value_len]
        if len(value) != value_len or (kind == 1 and value_len != 8):
            return None
        fields.append((b"Expires", struct.unpack("<q", value)[0]) if kind == 1 else (name, value))
        at += 4 + name_len + value_len
    return fields if at == len(record) else None


# ---- The socket ----

class Refused(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code


def targets(surrogates=(), resources=(), prefixes=(), everything=False, hold_ms=0, max_ms=0, families=()):
    """resources, prefixes: pairs of host and target."""
    def resource(pair):
        return some(1, pair[0]) + data(2, pair[1])
    return (b"".join(data(1, resource(pair)) for pair in resources) + b"".join(data(2, name) for name in surrogates)
            + b"".join(data(3, resource(pair)) for pair in prefixes) + number(4, int(everything)) + number(5, hold_ms)
            + number(6, max_ms) + b"".join(data(9, name) for name in families))


def frame(message):
    return struct.pack("<I", len(message)) + message


class Client:
    def __init__(self, path):
        self.path, self.ids, self.buffer = path, 0, b""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(20)
        self.socket.connect(path)
        self.descriptors = []
        before = coarse_ns()
        hello = fields_of(self.call(2, number(1, 2) + data(2, b"protocol_client.py"), 3))
        after = coarse_ns()
        self.roles, self.lease_ns, self.linger_ns = first(hello, 3), first(hello, 5), first(hello, 10)
        self.spool_id = first(hello, 9)
        self.index = None
        if first(hello, 7) and before <= first(hello, 4) <= after:
            self.index = Index(self.descriptors[0], first(hello, 7), first(hello, 6))
            if self.index.lease() > coarse_ns() + self.index.lease_ns:
                self.index = None
        for descriptor in self.descriptors:
            os.close(descriptor)

    def close(self):
        self.socket.close()

    def read(self, count):
        while len(self.buffer) < count:
            piece, ancillary, flags, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(4 * 4), socket.MSG_CMSG_CLOEXEC)
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    self.descriptors += array.array("i", content[:len(content) // 4 * 4])
            if not piece or flags & socket.MSG_CTRUNC:
                raise ConnectionError("the daemon closed, or descriptors were lost")
            self.buffer += piece
        out, self.buffer = self.buffer[:count], self.buffer[count:]
        return out

    def receive(self):
        """id, body's number, body"""
        reply = fields_of(self.read(struct.unpack("<I", self.read(4))[0]))
        body = next(no for no in reply if no != 1)
        return first(reply, 1), body, reply[body][0]

    def send(self, no, body):
        self.ids += 1
        self.socket.sendall(frame(number(1, self.ids) + data(no, body)))
        return self.ids

    def call(self, no, body, answer):
        request = self.send(no, body)
        while True:
            got, kind, said = self.receive()
            if got in (request, 0) and kind == 2:
                error = fields_of(said)
                raise Refused(first(error, 1), first(error, 2, b"").decode())
            if got == request and kind == answer:
                return said

    def fill(self, token, key, etag, surrogates=(), fields=(), max_age_ms=0):
        """The reason, 0 if it is stored."""
        kept = b"".join(data(4, data(1, name) + data(2, value)) for name, value in fields)
        entry = (data(1, key.message()) + data(2, etag) + kept + b"".join(data(6, name) for name in surrogates)
                 + number(7, max_age_ms))
        said = self.call(3, data(1, fixed(1, token[0]) + fixed(2, token[1])) + data(2, entry) + number(3, 1), 5)
        return first(fields_of(said), 1)

    def invalidate(self, named):
        return first(fields_of(self.call(4, named, 4)), 1)

    def guard(self, step, guard_id, named):
        """step: 14 begin, 15 confirm, 16 commit, 17 abort."""
        return first(fields_of(self.call(step, fixed(1, guard_id[0]) + fixed(2, guard_id[1]) + data(3, named), 4)), 1)


def guard_id():
    return secrets.randbits(64) or 1, secrets.randbits(64)


# ---- The spool ----

def read_mark(directory, path):
    """The mark's values, of a spool that may be used; uids under "uid"."""
    owner = os.fstat(directory).st_uid
    trusted = {0, os.stat(os.path.dirname(path)).st_uid}
    if os.path.exists(path):
        trusted.add(os.stat(path).st_uid)
    handle = os.open("mark", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if (owner not in trusted or not stat.S_ISREG(status.st_mode) or status.st_size > 32768 or status.st_uid != owner
                or status.st_mode & 0o022):
            raise ValueError("this is no spool to use")
        lines = file.read().decode().split("\n")
    values = {"uid": []}
    for line in lines[1:-1]:
        name, _, value = line.partition("=")
        if name == "uid":
            values["uid"].append(int(value))
        else:
            values[name] = value
    if (lines[0] != "etagd-spool 2" or lines[-1] != "" or int(values["end"]) != len(values["uid"]) or int(values["owner"]) != owner
            or values["socket"] != os.path.basename(path)):
        raise ValueError("the mark is not of this spool")
    return values


def rename_without_replacing(directory, old, new):
    if ctypes.CDLL(None, use_errno=True).renameat2(directory, old.encode(), directory, new.encode(), 1) == 0:
        return True
    if ctypes.get_errno() != errno.EEXIST:
        raise OSError(ctypes.get_errno(), "renameat2")
    return False


def spool(path, message):
    """Leaves a request (its message, without id) and returns when its effect is proven."""
    directory = os.open(os.path.join(os.path.dirname(path), "spool"), os.O_PATH | os.O_DIRECTORY)
    try:
        mark = read_mark(directory, path)
        me = os.geteuid()
        if me == int(mark["nobody"]) or not (mark["anybody"] == "1" or me in mark["uid"]):
            raise PermissionError("files of this uid do not count")
        temporary = f"t-{secrets.token_hex(8)}"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=directory)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o640)
            file.write(frame(message))
            file.flush()
            if mark["durability"] == "power":
                os.fsync(handle)
        for _ in range(64):
            if rename_without_replacing(directory, temporary, f"e{secrets.randbelow(4096):03x}"):
                break
        else:
            os.unlink(temporary, dir_fd=directory)
            raise OSError("the spool is full")
        if mark["durability"] == "power":
            os.sync()
        then = coarse_ns()
        again = read_mark(directory, path)
        if (again["id"], again["changes"]) != (mark["id"], mark["changes"]):
            raise TimeoutError("roles were changed meanwhile: the file may not count")
        lease_ns = int(again["lease_ns"])
        while coarse_ns() < then + lease_ns:
            time.sleep(max(0, (then + lease_ns - coarse_ns()) / 1e9) + 0.001)
    finally:
        os.close(directory)
