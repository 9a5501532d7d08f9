"""The Hub's protocol."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import re
from typing import Any
from urllib.parse import parse_qs, quote, unquote

from .hub_plumbing import Plumbing
from .hub_store import Entry, RefusedRequest, Repository, check_card, git_hash, is_large

__all__ = ["Handler"]

COUNTED_FILES = ("config.json", "config.yaml", "model_config.yaml", "hyperparams.yaml", "params.json", "meta.yaml")
WORDS = ("revision", "tree", "paths-info", "preupload", "commit", "commits", "refs", "branch", "tag", "settings")
REPOSITORY = r"/(?:(datasets|spaces)/)?([^/]+(?:/[^/]+)?)"


class Handler(Plumbing):
    """The Hub's own requests."""

    def route(self) -> None:
        raw = self.raw
        if hit := re.fullmatch(r"/(cdn|lfs-upload)/([0-9a-f]{64})", raw):  # signed links: no token is looked at
            self.send_blob(hit[2], {"ETag": f'"{hit[2]}"'}) if hit[1] == "cdn" else self.upload_large(hit[2])
            return
        self.identify()
        if raw == "/api/whoami-v2":
            self.answer(200, {"type": "user", **self.user, "orgs": [{"name": name} for name in self.user["orgs"]]})
        elif raw == "/api/repos/create":
            self.create_repository(self.json())
        elif raw == "/api/repos/delete":
            self.delete_repository(self.json())
        elif raw == "/api/validate-yaml":
            errors, warnings = (
                [{"message": text} for text in texts] for texts in check_card(self.json()["content"])[1:]
            )
            self.answer(400 if errors else 200, {"errors": errors, "warnings": warnings})
        elif hit := re.fullmatch(REPOSITORY + r"\.git/info/lfs/objects/(batch|verify)", raw):
            repository = self.need((hit[1] or "models")[:-1], hit[2], write=True)
            (self.offer_large if hit[3] == "batch" else self.verify_large)(repository, self.json())
        elif hit := re.fullmatch(REPOSITORY + r"/resolve/([^/]+)/(.+)", raw):
            self.send_file((hit[1] or "models")[:-1], *map(unquote, hit.groups()[1:]))
        elif hit := re.fullmatch(r"/api/(models|datasets|spaces)(?:/(.+))?", raw):
            self.route_api(hit[1][:-1], hit[2] or "")
        else:
            raise RefusedRequest(404, "Not found")

    def route_api(self, repo_type: str, path: str) -> None:
        if not path:
            self.list_repositories(repo_type)
            return
        parts = [unquote(part) for part in path.split("/")]
        length = 1 if len(parts) == 1 or parts[1] in WORDS else 2
        word, revision = (parts[length], parts[length + 1]) if len(parts) > length + 1 else ("revision", "main")
        if len(parts) == length + 1:
            word = parts[length]
        if word not in WORDS:
            raise RefusedRequest(404, "Not found")
        proposes = word in ("preupload", "commit") and self.first("create_pr")  # which anybody may
        writes = self.command not in ("GET", "HEAD") and word != "paths-info" and not (proposes and self.user)
        repository = self.need(repo_type, "/".join(parts[:length]), write=writes)
        getattr(self, "api_" + word.replace("-", "_"))(repository, revision, "/".join(parts[length + 2 :]))

    def identify(self) -> None:
        """Who asks, by the token."""
        header = self.headers.get("Authorization", "")
        found = self.hub.tokens.get(header.removeprefix("Bearer "))
        if found is None and (header or self.raw == "/api/whoami-v2"):
            raise RefusedRequest(401, "Invalid credentials in Authorization header")
        self.user: Any = found
        self.spaces = [found["name"], *found["orgs"]] if found else []

    def need(self, repo_type: str, repo_id: str, *, write: bool = False, content: bool = False) -> Repository:
        """The repository when this user may use it so; else the status and the code of the real Hub."""
        repository = self.hub.repo(repo_id, repo_type)
        mine = repository is not None and repository.id.split("/")[0] in self.spaces
        if repository is None or (repository.private and not mine) or (write and not self.user):
            raise RefusedRequest(404 if self.user else 401, "Repository not found", "RepoNotFound")
        if repository.disabled:
            raise RefusedRequest(403, "Access to this resource is disabled.")
        if write and not (mine and self.user["role"] == "write"):
            raise RefusedRequest(403, "You don't have the rights to write to this repository with this token")
        granted = mine or (self.user and self.user["name"] in repository.granted)
        if content and repository.gated and not granted:
            message = f"Access to {repo_type} {repository.id} is restricted."
            raise RefusedRequest(403 if self.user else 401, message, "GatedRepo")
        return repository

    def link(self, repository: Repository) -> str:
        return self.hub.url + ("/" if repository.type == "model" else f"/{repository.type}s/") + repository.id

    # -- repositories ---------------------------------------------------------------------------------------------

    def create_repository(self, wish: dict[str, Any]) -> None:
        owner, repo_type = wish.get("organization") or (self.spaces or [None])[0], wish.get("type") or "model"
        if owner not in self.spaces or self.user["role"] != "write":
            message = f'You don\'t have the rights to create a {repo_type} under "{owner}"'
            raise RefusedRequest(403 if self.user else 401, message)
        with self.hub.lock:
            name = f"{owner}/{wish['name']}"
            old = self.hub.repo(name, repo_type)
            repository = old or self.hub.create(name, repo_type, wish.get("visibility") == "private")
        self.answer(409 if old else 200, {"url": self.link(repository), "name": repository.id})

    def delete_repository(self, wish: dict[str, Any]) -> None:
        name = f"{wish.get('organization') or self.spaces[0]}/{wish['name']}"
        repository = self.need(wish.get("type") or "model", name, write=True)
        del self.hub.repositories[(repository.type, repository.id.lower())]
        self.answer(200, {"deleted": repository.id})

    def list_repositories(self, repo_type: str) -> None:
        rows = [
            self.hub.describe(repository, repository.refs["refs/heads/main"])
            for repository in self.hub.repositories.values()
            if repository.type == repo_type and (not repository.private or repository.id.split("/")[0] in self.spaces)
        ]
        tags, author, task = set(self.query.get("filter", [])), self.first("author"), self.first("pipeline_tag")
        found = [
            row
            for row in rows
            if self.first("search") in row["id"]
            and author in ("", row["author"])
            and task in ("", row["pipeline_tag"])
            and tags <= set(row["tags"])
        ]
        self.answer(200, found[: int(self.first("limit", "1000"))])

    def api_revision(self, repository: Repository, revision: str, _: str) -> None:
        commit = self.hub.resolve(repository, revision)
        self.answer(200, self.hub.describe(repository, commit, with_hashes="blobs" in self.query))

    def api_settings(self, repository: Repository, *_: str) -> None:
        wish = self.json()
        if "visibility" in wish:
            repository.private = wish["visibility"] == "private"
        repository.gated = wish.get("gated", repository.gated)
        self.answer(200, {})

    # -- files down -------------------------------------------------------------------------------------------------

    def send_file(self, repo_type: str, repo_id: str, revision: str, path: str) -> None:
        repository = self.need(repo_type, repo_id, content=True)
        commit = self.hub.resolve(repository, revision)
        entry, headers = repository.commits[commit]["tree"].get(path), {"X-Repo-Commit": commit}
        if entry is None:
            raise RefusedRequest(404, "Entry not found", "EntryNotFound", headers)
        repository.downloads += path in COUNTED_FILES
        headers["ETag"] = f'"{entry.git_hash}"'
        if not entry.large:
            self.send_blob(entry.sha256, headers)
            return
        headers |= {"Location": f"{self.hub.cdn_url}/cdn/{entry.sha256}"}
        headers |= {"X-Linked-Size": str(entry.size), "X-Linked-ETag": f'"{entry.sha256}"'}
        self.answer(302, b"Found", headers, "text/plain")

    def send_blob(self, sha256: str, headers: dict[str, str]) -> None:
        content = self.hub.blob(sha256).read_bytes()
        hit, total = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")), len(content)
        if hit and int(hit[1]) >= total:
            raise RefusedRequest(416, "Range Not Satisfiable", headers={"Content-Range": f"bytes */{total}"})
        if hit:
            content = content[int(hit[1]) : int(hit[2] or total) + 1]
            last = int(hit[1]) + len(content) - 1
            headers = {**headers, "Content-Range": f"bytes {hit[1]}-{last}/{total}"}
        self.answer(206 if hit else 200, content, {**headers, "Accept-Ranges": "bytes"}, "application/octet-stream")

    def rows(self, repository: Repository, revision: str, folder: str = "", recursive: bool = True) -> dict[str, Any]:
        found: dict[str, Any] = {}
        prefix = folder + "/" if folder else ""
        for path, entry in repository.commits[self.hub.resolve(repository, revision)]["tree"].items():
            parts = path.removeprefix(prefix).split("/") if path.startswith(prefix) else []
            for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
                name = prefix + "/".join(parts[:depth])
                found.setdefault(name, {"type": "directory", "path": name, "size": 0, "oid": git_hash(name.encode())})
            if parts and (recursive or len(parts) == 1):
                large = {"lfs": {"oid": entry.sha256, "size": entry.size, "pointerSize": 134}} if entry.large else {}
                found[path] = {"type": "file", "path": path, "size": entry.size, "oid": entry.git_hash, **large}
        return found

    def api_tree(self, repository: Repository, revision: str, folder: str) -> None:
        recursive = self.first("recursive") in ("true", "True", "1")
        rows = list(self.rows(repository, revision, folder, recursive).values())
        if folder and not rows:
            raise RefusedRequest(404, f'{folder} does not exist on "{revision}"', "EntryNotFound")
        start, size = int(self.first("cursor", "0")), self.hub.page_size
        others = "".join(f"{name}={quote(self.first(name))}&" for name in self.query if name != "cursor")
        link = f'<{self.hub.url}{self.raw}?{others}cursor={start + size}>; rel="next"'
        self.answer(200, rows[start : start + size], {"Link": link} if start + size < len(rows) else {})

    def api_paths_info(self, repository: Repository, revision: str, _: str) -> None:
        rows, paths = self.rows(repository, revision), parse_qs(self.body.decode()).get("paths", [])
        self.answer(200, [rows[path.rstrip("/")] for path in paths if path.rstrip("/") in rows])

    # -- files up: first which are large, then those are put apart, then one commit names all ------------------------

    def api_preupload(self, repository: Repository, revision: str, _: str) -> None:
        wish, found = self.json(), []
        tree = repository.commits[self.hub.resolve(repository, revision)]["tree"]
        ignored = (wish.get("gitIgnore") or "").split()
        for file in wish["files"]:
            path, old = file["path"], tree.get(file["path"])
            mode = "lfs" if is_large(path, file["size"]) else "regular"
            known = old and (old.sha256 if old.large else old.git_hash)
            skipped = any(fnmatch.fnmatch(path, name) for name in ignored)
            found.append({"path": path, "uploadMode": mode, "shouldIgnore": skipped, "oid": known})
        self.answer(200, {"files": found})

    def offer_large(self, repository: Repository, wish: dict[str, Any]) -> None:
        found: list[dict[str, Any]] = []
        for wanted in wish["objects"]:
            offer: dict[str, Any] = {"oid": wanted["oid"], "size": wanted["size"], "authenticated": True}
            if not self.hub.blob(wanted["oid"]).exists():
                offer["actions"] = {
                    "upload": {"href": f"{self.hub.cdn_url}/lfs-upload/{wanted['oid']}"},
                    "verify": {"href": f"{self.link(repository)}.git/info/lfs/objects/verify"},
                }
            found.append(offer)
        self.answer(200, {"transfer": "basic", "objects": found}, content_type="application/vnd.git-lfs+json")

    def upload_large(self, sha256: str) -> None:
        intact = hashlib.sha256(self.body).hexdigest() == sha256
        self.answer(200 if intact and self.hub.put_blob(self.body) else 400)

    def verify_large(self, repository: Repository, wish: dict[str, Any]) -> None:
        path = self.hub.blob(wish["oid"])
        self.answer(200 if path.exists() and path.stat().st_size == wish["size"] else 422)

    def changes(self, tree: dict[str, Entry], kind: str, value: dict[str, Any]) -> list[tuple[str, Entry | None]]:
        path: str = value["path"]
        if path.startswith("/") or ".." in path.split("/"):
            raise RefusedRequest(400, f"invalid path {path!r}")
        if kind == "file":
            return [(path, self.hub.entry(base64.b64decode(value["content"])))]
        if kind == "lfsFile":
            if not self.hub.blob(value["oid"]).exists():
                raise RefusedRequest(400, f"LFS object {value['oid']} of {path} was not uploaded")
            return [(path, self.hub.large_entry(value["oid"]))]
        inside = path.rstrip("/") + "/"
        gone = [name for name in tree if name == path or (kind == "deletedFolder" and name.startswith(inside))]
        if not gone:
            raise RefusedRequest(404, "A file with this name doesn't exist", "EntryNotFound")
        return [(name, None) for name in gone]

    def api_commit(self, repository: Repository, revision: str, _: str) -> None:
        header, *lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        header, request = header["value"], None
        ref = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
        with self.hub.lock:  # all of it or nothing
            head, parent = self.hub.resolve(repository, ref), header.get("parentCommit")
            if self.first("create_pr"):
                request = 1 + sum(name.startswith("refs/pr/") for name in repository.refs)
                ref = f"refs/pr/{request}"
            elif parent and not head.startswith(parent):
                raise RefusedRequest(412, "A commit has happened since. Please refresh and try again.")
            tree = repository.commits[head]["tree"]
            changes = [change for line in lines for change in self.changes(tree, line["key"], line["value"])]
            message, author = header.get("description", ""), self.user["name"]
            commit = self.hub.commit(
                repository, ref, header["summary"], changes, message=message, author=author, parent=head
            )
        link = self.link(repository)
        urls = {"commitUrl": f"{link}/commit/{commit}", "pullRequestUrl": f"{link}/discussions/{request}"}
        self.answer(200, {"commitOid": commit, **urls})

    # -- history ----------------------------------------------------------------------------------------------------

    def api_commits(self, repository: Repository, revision: str, _: str) -> None:
        found, commit = [], self.hub.resolve(repository, revision)
        while commit:
            known = {name: value for name, value in repository.commits[commit].items() if name != "tree"}
            found.append({"id": commit, "authors": [{"user": known["author"]}], **known})
            commit = known["parent"]
        self.answer(200, found)

    def api_refs(self, repository: Repository, *_: str) -> None:
        rows = [
            {"name": ref.split("/", 2)[2], "ref": ref, "targetCommit": commit}
            for ref, commit in repository.refs.items()
        ]
        kinds = {"branches": "heads", "tags": "tags", "pullRequests": "pr", "converts": "convert"}
        found = {name: [row for row in rows if row["ref"].startswith(f"refs/{kind}/")] for name, kind in kinds.items()}
        self.answer(200, found)

    def api_branch(self, repository: Repository, name: str, _: str) -> None:
        self.change_ref(repository, f"refs/heads/{name}", start="main")

    def api_tag(self, repository: Repository, revision: str, _: str) -> None:
        name = self.json()["tag"] if self.body else revision
        self.change_ref(repository, f"refs/tags/{name}", start=revision)

    def change_ref(self, repository: Repository, ref: str, start: str) -> None:
        exists = ref in repository.refs
        if self.command == "DELETE":
            if not exists:
                raise RefusedRequest(404, "No such ref", "RevisionNotFound")
            del repository.refs[ref]
        else:
            if exists:
                raise RefusedRequest(409, f"Reference {ref} exists")
            repository.refs[ref] = self.hub.resolve(repository, self.json().get("startingPoint") or start)
        self.answer(200, {})
