"""A small Hub on loopback, for testing push and pull with the REAL huggingface_hub client (standard library only).

    with HubServer(tokens={"hf_w": {"name": "ann", "orgs": ["acme"], "role": "write"}}) as hub:
        api = HfApi(endpoint=hub.url, token="hf_w")        # or HF_ENDPOINT=hub.url in a subprocess
        hub.fault("/cdn/", cut_after=1000)                 # break the next download after 1000 bytes
        hub.log                                            # every request: method, path, headers, status

or `python hubserver.py --port 8123`. Clients need HF_HUB_DISABLE_XET=1. LFS files are served from a second port,
another origin like the real CDN: a token that leaks there is visible in the log.
"""

import base64
import datetime
import fnmatch
import hashlib
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import namedtuple
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote

LFS_GLOBS = (
    ["*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.onnx", "*.model", "*.msgpack", "*.np[yz]", "*.parquet", "*.zip", "*.gz", "*.pkl"]
)
LFS_SIZE = 10 * 1024 * 1024  # larger files go to LFS whatever their name
QUERY_FILES = ("config.json", "config.yaml", "model_config.yaml", "hyperparams.yaml", "params.json", "meta.yaml")
WORDS = ["revision", "tree", "paths-info", "preupload", "commit", "commits", "refs", "branch", "tag", "settings"]
REPO = r"/(?:(datasets|spaces)/)?([^/]+(?:/[^/]+)?)"


# One file of one commit: blob is the sha256 of the content (its name on disk), oid the git sha1 (of the LFS pointer).
Entry = namedtuple("Entry", "blob oid size lfs")


@dataclass
class Repo:
    id: str
    type: str = "model"
    private: bool = False
    gated: object = False  # False, "auto" or "manual"; `granted` names who may read
    granted: set = field(default_factory=set)
    disabled: bool = False
    downloads: int = 0
    refs: dict = field(default_factory=dict)  # "refs/heads/main", "refs/tags/x", "refs/pr/1" -> commit id
    commits: dict = field(default_factory=dict)  # id -> {"parent", "title", "message", "date", "author", "tree"}


class Http(Exception):  # raised anywhere below, answered by the handler
    def __init__(self, status, message, code=None, headers=None):
        self.status, self.headers = status, {"X-Error-Message": message, "X-Error-Code": code, **(headers or {})}


def git_oid(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def is_lfs(path, size):
    return size > 0 and (size > LFS_SIZE or any(fnmatch.fnmatch(path, g) for g in LFS_GLOBS))


def check_card(text):
    """(metadata, errors, warnings) of a README.md; without PyYAML every card passes, with no metadata."""
    match = re.match(r"\s*---[ \t]*\r?\n(.*?)\r?\n?---[ \t]*(\r?\n|$)", text, re.S)
    try:
        import yaml

        data = yaml.safe_load(match[1]) if match else {}
        bad = [
            f'"{k}" must be a string' for k in ("library_name", "pipeline_tag") if not isinstance(data.get(k, ""), str)
        ]
    except Exception as e:
        return {}, [] if isinstance(e, ImportError) else [f"YAML metadata error: {e}"], []
    return data, bad, [] if match else ["empty or missing yaml metadata in repo card"]


class HubServer:
    def __init__(self, tokens=None, port=0, page_size=1000):
        self.tokens = tokens or {"hf_test": {"name": "tester", "orgs": [], "role": "write"}}
        self.root, self.page_size, self.lock = tempfile.mkdtemp(prefix="hubserver-"), page_size, threading.RLock()
        self.repos, self.faults, self.log, self.servers = {}, [], [], []
        for number, is_cdn in ((port, False), (0, True)):
            handler = type("BoundHandler", (Handler,), {"hub": self, "is_cdn": is_cdn})
            self.servers.append(ThreadingHTTPServer(("127.0.0.1", number), handler))
            threading.Thread(target=self.servers[-1].serve_forever, args=(0.05,), daemon=True).start()
        self.url, self.cdn_url = (f"http://127.0.0.1:{s.server_port}" for s in self.servers)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for httpd in self.servers:
            httpd.shutdown(), httpd.server_close()
        shutil.rmtree(self.root, ignore_errors=True)

    # ---- switches for tests
    def fault(
        self,
        path,
        method=None,
        times=1,
        status=None,
        headers=None,
        delay=0.0,
        cut_after=None,
        stall_after=None,
        corrupt=False,
        drop=False,
        drop_headers=(),
    ):
        """The next `times` requests (-1: all) whose path matches the regex get: status (503, 429 with headers
        {"Retry-After": "1"}), delay (s), cut_after (bytes of body, then hang up), stall_after (bytes, then `delay` s of
        silence), corrupt (one byte of the body is flipped), drop (no answer at all), drop_headers (["ETag"])."""
        self.faults.append({**locals(), "headers": headers or {}})

    def take_fault(self, method, path):
        with self.lock:
            f = next(
                (f for f in self.faults if f["times"] and f["method"] in (None, method) and re.search(f["path"], path)),
                {},
            )
            if f:
                f["times"] -= f["times"] > 0
            return f

    def clear(self):
        self.faults.clear(), self.log.clear()

    def requests(self, method=None, path=""):
        return [e for e in self.log if method in (None, e["method"]) and re.search(path, e["path"])]

    # ---- storage: contents in files named by sha256, everything else in memory
    def blob(self, sha256):
        return os.path.join(self.root, sha256)

    def put_blob(self, data):
        sha = hashlib.sha256(data).hexdigest()
        with open(f"{self.blob(sha)}.{threading.get_ident()}", "wb") as f:
            f.write(data)
        os.replace(f.name, self.blob(sha))
        return sha

    def entry(self, data=None, lfs=False, oid=None):
        blob = oid or self.put_blob(data)
        size = os.path.getsize(self.blob(blob))
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{blob}\nsize {size}\n".encode()
        return Entry(blob, git_oid(pointer if lfs else data), size, lfs)

    def repo(self, rid, rtype="model"):
        return self.repos.get((rtype, rid.lower()))

    def create(self, rid, rtype="model", private=False):
        repo = self.repos[(rtype, rid.lower())] = Repo(rid, rtype, private)
        attributes = self.entry("".join(f"{g} filter=lfs diff=lfs merge=lfs -text\n" for g in LFS_GLOBS).encode())
        self.commit(repo, "refs/heads/main", "initial commit", changes=[(".gitattributes", attributes)])
        return repo

    def add_file(self, rid, path, data, rtype="model", rev="main", lfs=None):
        """Puts a file there without the client, for hostile or legacy repos. Returns the commit id."""
        repo = self.repo(rid, rtype) or self.create(rid, rtype)
        entry = self.entry(data, is_lfs(path, len(data)) if lfs is None else lfs)
        return self.commit(repo, f"refs/heads/{rev}", f"add {path}", changes=[(path, entry)])

    def commit(self, repo, ref, title, message="", changes=(), author="tester", parent=None):
        with self.lock:
            parent = parent or repo.refs.get(ref)
            tree = {**(repo.commits[parent]["tree"] if parent else {}), **dict(changes)}.items()
            tree = {path: entry for path, entry in sorted(tree, key=lambda i: i[0]) if entry is not None}
            seed = json.dumps([parent, title, repo.id, len(repo.commits), [(p, e.oid) for p, e in tree.items()]])
            sha = repo.refs[ref] = hashlib.sha1(seed.encode()).hexdigest()
            date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            repo.commits[sha] = dict(parent=parent, title=title, message=message, date=date, author=author, tree=tree)
            return sha

    def resolve(self, repo, rev):
        for name in (f"refs/heads/{rev}", f"refs/tags/{rev}", rev):
            if name in repo.refs:
                return repo.refs[name]
        found = [c for c in repo.commits if re.fullmatch("[0-9a-f]{5,40}", rev) and c.startswith(rev)]
        if len(found) != 1:
            raise Http(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        return found[0]

    def describe(self, repo, sha, blobs=False):
        commit, siblings, card = repo.commits[sha], [], {}
        for path, e in commit["tree"].items():
            lfs = {"lfs": {"sha256": e.blob, "size": e.size, "pointerSize": 134}} if e.lfs else {}
            siblings.append({"rfilename": path, **({"size": e.size, "blobId": e.oid, **lfs} if blobs else {})})
        if "README.md" in commit["tree"]:
            with open(self.blob(commit["tree"]["README.md"].blob), encoding="utf-8", errors="replace") as f:
                card = check_card(f.read())[0]
        library, task = card.get("library_name"), card.get("pipeline_tag")
        tags = [t for t in (*(card.get("tags") or []), library, task, f"license:{card.get('license', 'unknown')}") if t]
        return {
            "id": repo.id,
            "author": repo.id.split("/")[0],
            "sha": sha,
            "lastModified": commit["date"],
            "private": repo.private,
            "gated": repo.gated,
            "disabled": repo.disabled,
            "downloads": repo.downloads,
            "siblings": siblings,
            "cardData": card,
            "tags": tags,
            "library_name": library,
            "pipeline_tag": task,
        }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    log_message = staticmethod(lambda *args: None)

    # ---- plumbing
    def answer(self, status, body=b"", headers=None, content_type="application/json"):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        f, self.entry["status"] = self.fault, status
        headers = {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            **(headers or {}),
            **f.get("headers", {}),
        }
        self.send_response(status)
        for k, v in headers.items():
            if v is not None and k not in f.get("drop_headers", ()):
                self.send_header(k, v)
        self.end_headers()
        body = bytes([body[0] ^ 1]) + body[1:] if f.get("corrupt") and body else body
        stall, cut = f.get("stall_after"), f.get("cut_after")
        if self.command != "HEAD":
            self.wfile.write(body[: stall if cut is None else cut])
            self.wfile.flush()
            time.sleep(0 if stall is None else f["delay"])
            if (stall, cut) != (None, None):
                self.hang_up()

    def hang_up(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def run(self):
        self.raw, _, query = self.path.partition("?")
        self.query, self.fault = {k: v[-1] for k, v in parse_qs(query).items()}, {}
        self.entry = dict(
            method=self.command,
            path=unquote(self.raw),
            query=query,
            cdn=self.is_cdn,
            status=0,
            headers={k.lower(): v for k, v in self.headers.items()},
        )
        try:
            self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.raw.startswith("/_admin/"):  # for a server in another process: POST fault {..}, POST clear, GET log
                calls = {"fault": lambda: self.hub.fault(**json.loads(self.body)), "clear": self.hub.clear}
                return self.answer(200, calls.get(self.raw[8:], lambda: self.hub.log)() or {})
            self.hub.log.append(self.entry)
            self.fault = f = self.hub.take_fault(self.command, self.entry["path"])
            time.sleep(f["delay"] if f and f["stall_after"] is None else 0)
            if f.get("status"):
                raise Http(f["status"], "injected fault")
            self.hang_up() if f.get("drop") else self.route()
        except Http as e:
            self.answer(e.status, {"error": e.headers["X-Error-Message"]}, e.headers)
        except OSError:  # the client went away
            self.close_connection = True
        except Exception as e:  # a bug here must not look like a network fault
            self.answer(500, {"error": f"hubserver: {e!r}"}, {"X-Error-Message": f"hubserver: {e!r}"})

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = run

    def need(self, rtype, rid, write=False, content=False):
        """The repo, if this user may use it so; else the status and X-Error-Code of the real Hub."""
        repo = self.hub.repo(rid, rtype)
        mine = repo is not None and repo.id.split("/")[0] in self.spaces
        if repo is None or (repo.private and not mine) or (write and not self.user):
            raise Http(404 if self.user else 401, "Repository not found", "RepoNotFound")
        if repo.disabled:
            raise Http(403, "Access to this resource is disabled.")
        if write and not (mine and self.user["role"] == "write"):
            raise Http(403, "You don't have the rights to write to this repository with this token")
        if content and repo.gated and not mine and (not self.user or self.user["name"] not in repo.granted):
            raise Http(403 if self.user else 401, f"Access to {rtype} {repo.id} is restricted.", "GatedRepo")
        return repo

    def link(self, repo):
        return self.hub.url + ("/" if repo.type == "model" else f"/{repo.type}s/") + repo.id

    def route(self):
        raw = self.raw
        if hit := re.fullmatch(r"/(cdn|lfs-upload)/([0-9a-f]{64})", raw):  # signed links: no token is looked at
            return self.send_blob(hit[2], {"ETag": f'"{hit[2]}"'}) if hit[1] == "cdn" else self.lfs_upload(hit[2])
        header = self.headers.get("Authorization", "")
        self.user = self.hub.tokens.get(header.removeprefix("Bearer "))
        self.spaces = [self.user["name"], *self.user["orgs"]] if self.user else []
        if not self.user and (header or raw == "/api/whoami-v2"):
            raise Http(401, "Invalid credentials in Authorization header")
        if raw == "/api/whoami-v2":
            return self.answer(200, {"type": "user", **self.user, "orgs": [{"name": o} for o in self.user["orgs"]]})
        if raw in ("/api/repos/create", "/api/repos/delete"):
            return getattr(self, raw[5:].replace("/", "_"))(json.loads(self.body))
        if raw == "/api/validate-yaml":
            errors, warnings = (
                [{"message": m} for m in rows] for rows in check_card(json.loads(self.body)["content"])[1:]
            )
            return self.answer(400 if errors else 200, {"errors": errors, "warnings": warnings})
        if hit := re.fullmatch(REPO + r"\.git/info/lfs/objects/(batch|verify)", raw):
            repo = self.need((hit[1] or "models")[:-1], hit[2], write=True)
            return getattr(self, "lfs_" + hit[3])(repo, json.loads(self.body))
        if hit := re.fullmatch(REPO + r"/resolve/([^/]+)/(.+)", raw):
            return self.get_file((hit[1] or "models")[:-1], *map(unquote, hit.groups()[1:]))
        if hit := re.fullmatch(r"/api/(models|datasets|spaces)(?:/(.+))?", raw):
            if not hit[2]:
                return self.list_repos(hit[1][:-1])
            seg = [unquote(s) for s in hit[2].split("/")]
            n = 1 if len(seg) == 1 or seg[1] in WORDS else 2
            word, rev = seg[n : n + 2] if len(seg) > n + 1 else ((seg[n:] or ["revision"])[0], "main")
            if word in WORDS:
                repo = self.need(
                    hit[1][:-1], "/".join(seg[:n]), self.command not in ("GET", "HEAD") and word != "paths-info"
                )
                return getattr(self, "api_" + word.replace("-", "_"))(repo, rev, "/".join(seg[n + 2 :]))
        raise Http(404, "Not found")

    # ---- repos
    def repos_create(self, p):
        owner, rtype = p.get("organization") or (self.spaces or [None])[0], p.get("type") or "model"
        if owner not in self.spaces or self.user["role"] != "write":
            raise Http(403 if self.user else 401, f'You don\'t have the rights to create a {rtype} under "{owner}"')
        with self.hub.lock:
            old = self.hub.repo(f"{owner}/{p['name']}", rtype)
            repo = old or self.hub.create(f"{owner}/{p['name']}", rtype, p.get("visibility") == "private")
        self.answer(409 if old else 200, {"url": self.link(repo), "name": repo.id})

    def repos_delete(self, p):
        repo = self.need(p.get("type") or "model", f"{p.get('organization') or self.spaces[0]}/{p['name']}", write=True)
        self.answer(200, {"deleted": self.hub.repos.pop((repo.type, repo.id.lower())).id})

    def list_repos(self, rtype):
        q, seen = self.query, [r for r in self.hub.repos.values() if not r.private or r.id.split("/")[0] in self.spaces]
        rows = [
            self.hub.describe(r, r.refs["refs/heads/main"])
            for r in seen
            if r.type == rtype and q.get("search", "") in r.id
        ]
        self.answer(
            200, [r for r in rows if q.get("author") in (None, r["author"]) and q.get("filter") in (None, *r["tags"])]
        )

    def api_revision(self, repo, rev, _):
        self.answer(200, self.hub.describe(repo, self.hub.resolve(repo, rev), "blobs" in self.query))

    def api_settings(self, repo, *_):
        p = json.loads(self.body)
        repo.private, repo.gated = (
            p.get("visibility", "private" if repo.private else "") == "private",
            p.get("gated", repo.gated),
        )
        self.answer(200, {})

    # ---- files down
    def get_file(self, rtype, rid, rev, path):
        repo = self.need(rtype, rid, content=True)
        sha = self.hub.resolve(repo, rev)
        entry, headers = repo.commits[sha]["tree"].get(path), {"X-Repo-Commit": sha}
        if entry is None:
            raise Http(404, "Entry not found", "EntryNotFound", headers)
        repo.downloads += path in QUERY_FILES
        headers["ETag"] = f'"{entry.oid}"'
        if not entry.lfs:
            return self.send_blob(entry.blob, headers)
        self.answer(
            302,
            b"Found",
            {
                **headers,
                "Location": f"{self.hub.cdn_url}/cdn/{entry.blob}",
                "X-Linked-Size": str(entry.size),
                "X-Linked-ETag": f'"{entry.blob}"',
            },
            "text/plain",
        )

    def send_blob(self, sha, headers):
        with open(self.hub.blob(sha), "rb") as f:
            data = f.read()
        hit, total = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")), len(data)
        if hit and int(hit[1]) >= total:
            raise Http(416, "Range Not Satisfiable", headers={"Content-Range": f"bytes */{total}"})
        if hit:
            data = data[int(hit[1]) : int(hit[2] or total) + 1]
            headers["Content-Range"] = f"bytes {hit[1]}-{int(hit[1]) + len(data) - 1}/{total}"
        self.answer(206 if hit else 200, data, {**headers, "Accept-Ranges": "bytes"}, "application/octet-stream")

    def rows(self, repo, rev, folder="", recursive=True):
        out, prefix = {}, folder + "/" if folder else ""
        for path, e in repo.commits[self.hub.resolve(repo, rev)]["tree"].items():
            parts = path.removeprefix(prefix).split("/") if path.startswith(prefix) else []
            for i in range(1, len(parts) if recursive else min(len(parts), 2)):
                d = prefix + "/".join(parts[:i])
                out.setdefault(d, {"type": "directory", "path": d, "size": 0, "oid": git_oid(d.encode())})
            if parts and (recursive or len(parts) == 1):
                lfs = {"lfs": {"oid": e.blob, "size": e.size, "pointerSize": 134}} if e.lfs else {}
                out[path] = {"type": "file", "path": path, "size": e.size, "oid": e.oid, **lfs}
        return out

    def api_tree(self, repo, rev, folder):
        rows = list(self.rows(repo, rev, folder, self.query.get("recursive") in ("true", "True", "1")).values())
        if folder and not rows:
            raise Http(404, f'{folder} does not exist on "{rev}"', "EntryNotFound")
        start, size = int(self.query.pop("cursor", 0)), self.hub.page_size
        link = (
            f"{self.hub.url}{self.raw}?"
            + "".join(f"{k}={quote(v)}&" for k, v in self.query.items())
            + f"cursor={start + size}"
        )
        self.answer(
            200, rows[start : start + size], {"Link": f'<{link}>; rel="next"' if start + size < len(rows) else None}
        )

    def api_paths_info(self, repo, rev, _):
        rows, paths = self.rows(repo, rev), parse_qs(self.body.decode()).get("paths", [])
        self.answer(200, [rows[p.rstrip("/")] for p in paths if p.rstrip("/") in rows])

    # ---- files up: preupload says regular or LFS, LFS objects are PUT, then one commit names them all
    def api_preupload(self, repo, rev, _):
        p, tree, out = json.loads(self.body), repo.commits[self.hub.resolve(repo, rev)]["tree"], []
        for f in p["files"]:
            old, skip = (
                tree.get(f["path"]),
                any(fnmatch.fnmatch(f["path"], g) for g in (p.get("gitIgnore") or "").split()),
            )
            mode, oid = "lfs" if is_lfs(f["path"], f["size"]) else "regular", old and (old.blob if old.lfs else old.oid)
            out.append({"path": f["path"], "uploadMode": mode, "shouldIgnore": skip, "oid": oid})
        self.answer(200, {"files": out})

    def lfs_batch(self, repo, p):
        out = [{"oid": o["oid"], "size": o["size"], "authenticated": True} for o in p["objects"]]
        for o in out:
            if not os.path.exists(self.hub.blob(o["oid"])):
                o["actions"] = {
                    "upload": {"href": f"{self.hub.cdn_url}/lfs-upload/{o['oid']}"},
                    "verify": {"href": f"{self.link(repo)}.git/info/lfs/objects/verify"},
                }
        self.answer(200, {"transfer": "basic", "objects": out}, content_type="application/vnd.git-lfs+json")

    def lfs_upload(self, oid):
        self.answer(200 if hashlib.sha256(self.body).hexdigest() == oid and self.hub.put_blob(self.body) else 400)

    def lfs_verify(self, repo, p):
        path = self.hub.blob(p["oid"])
        self.answer(200 if os.path.exists(path) and os.path.getsize(path) == p["size"] else 422)

    def changes(self, tree, kind, v):
        path = v["path"]
        if path.startswith("/") or ".." in path.split("/"):
            raise Http(400, f"invalid path {path!r}")
        if kind == "file":
            return [(path, self.hub.entry(base64.b64decode(v["content"])))]
        if kind == "lfsFile" and not os.path.exists(self.hub.blob(v["oid"])):
            raise Http(400, f"LFS object {v['oid']} of {path} was not uploaded")
        if kind == "lfsFile":
            return [(path, self.hub.entry(lfs=True, oid=v["oid"]))]
        gone = [p for p in tree if p == path or (kind == "deletedFolder" and p.startswith(path.rstrip("/") + "/"))]
        if not gone:
            raise Http(404, "A file with this name doesn't exist", "EntryNotFound")
        return [(p, None) for p in gone]

    def api_commit(self, repo, rev, _):
        head, *lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        head, ref, pr = head["value"], rev if rev.startswith("refs/") else f"refs/heads/{rev}", None
        with self.hub.lock:  # all of it or nothing
            sha, parent = self.hub.resolve(repo, ref), head.get("parentCommit")
            if self.query.get("create_pr"):
                pr = 1 + sum(r.startswith("refs/pr/") for r in repo.refs)
            elif parent and not sha.startswith(parent):
                raise Http(412, "A commit has happened since. Please refresh and try again.")
            changes = [c for line in lines for c in self.changes(repo.commits[sha]["tree"], line["key"], line["value"])]
            new = self.hub.commit(
                repo,
                f"refs/pr/{pr}" if pr else ref,
                head["summary"],
                head.get("description", ""),
                changes,
                self.user["name"],
                sha,
            )
        url = self.link(repo)
        self.answer(
            200, {"commitOid": new, "commitUrl": f"{url}/commit/{new}", "pullRequestUrl": f"{url}/discussions/{pr}"}
        )

    # ---- history
    def api_commits(self, repo, rev, _):
        out, sha = [], self.hub.resolve(repo, rev)
        while sha:
            c = {k: v for k, v in repo.commits[sha].items() if k != "tree"}
            out.append({"id": sha, "authors": [{"user": c["author"]}], **c})
            sha = c["parent"]
        self.answer(200, out)

    def api_refs(self, repo, *_):
        rows = [{"name": ref.split("/", 2)[2], "ref": ref, "targetCommit": sha} for ref, sha in repo.refs.items()]
        kinds = {"branches": "heads", "tags": "tags", "pullRequests": "pr", "converts": "convert"}
        self.answer(200, {k: [r for r in rows if r["ref"].startswith(f"refs/{v}/")] for k, v in kinds.items()})

    def api_branch(self, repo, name, _, kind="heads", start="main"):
        p, ref = json.loads(self.body or b"{}"), f"refs/{kind}/{name}"
        if (self.command == "DELETE") != (ref in repo.refs):
            raise (
                Http(409, f"Reference {ref} exists")
                if ref in repo.refs
                else Http(404, "No such ref", "RevisionNotFound")
            )
        target = repo.refs.pop(ref) if ref in repo.refs else self.hub.resolve(repo, p.get("startingPoint") or start)
        repo.refs.update({} if self.command == "DELETE" else {ref: target})
        self.answer(200, {})

    def api_tag(self, repo, rev, _):
        self.api_branch(repo, json.loads(self.body)["tag"] if self.body else rev, _, "tags", rev)


if __name__ == "__main__":
    port = int(sys.argv[2]) if sys.argv[1:2] == ["--port"] else 8123
    with HubServer({"hf_test": {"name": "tester", "orgs": ["acme"], "role": "write"}}, port) as server:
        print(f"HF_ENDPOINT={server.url} HF_TOKEN=hf_test HF_HUB_DISABLE_XET=1", flush=True)
        threading.Event().wait()
