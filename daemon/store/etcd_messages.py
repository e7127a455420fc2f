"""The messages of etcd's v3 API that Plum speaks, without generated code.

Names and numbers are those of etcd's rpc.proto and kv.proto; what we neither send
nor read is left out, which the wire format allows. They live in a protobuf package
of our own, so that another etcd client in the process is no clash of names.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "plum.etcd"
_SCHEMA = {
    "Header": "uint64 cluster_id=1; uint64 member_id=2; int64 revision=3",
    "KeyValue": (
        "bytes key=1; int64 create_revision=2; int64 mod_revision=3; bytes value=5; int64 lease=6"
    ),
    "RangeRequest": (
        "bytes key=1; bytes range_end=2; int64 limit=3; int64 revision=4; bool serializable=7"
    ),
    "RangeResponse": "Header header=1; repeated KeyValue kvs=2; bool more=3",
    "PutRequest": "bytes key=1; bytes value=2; int64 lease=3",
    "PutResponse": "Header header=1",
    "DeleteRequest": "bytes key=1; bytes range_end=2",
    "DeleteResponse": "Header header=1",
    "RequestOp": "oneof PutRequest put=2; oneof DeleteRequest delete=3",
    "ResponseOp": "oneof PutResponse put=2; oneof DeleteResponse delete=3",
    # result 0: equal; target 2: mod_revision
    "Compare": "int32 result=1; int32 target=2; bytes key=3; oneof int64 mod_revision=6",
    "TxnRequest": "repeated Compare compare=1; repeated RequestOp success=2",
    "TxnResponse": "Header header=1; bool succeeded=2; repeated ResponseOp responses=3",
    "CompactRequest": "int64 revision=1",
    "CompactResponse": "Header header=1",
    "WatchCreate": (
        "bytes key=1; bytes range_end=2; int64 start_revision=3; bool progress_notify=4; "
        "int64 watch_id=7"
    ),
    "WatchProgress": "",
    "WatchRequest": "oneof WatchCreate create=1; oneof WatchProgress progress=3",
    "Event": "int32 type=1; KeyValue kv=2",  # type 1: deleted
    "WatchResponse": (
        "Header header=1; int64 watch_id=2; bool created=3; bool canceled=4; "
        "int64 compact_revision=5; string cancel_reason=6; repeated Event events=11"
    ),
    "LeaseGrantRequest": "int64 ttl=1",
    "LeaseGrantResponse": "Header header=1; int64 id=2; int64 ttl=3",
    "LeaseKeepAliveRequest": "int64 id=1",
    "LeaseKeepAliveResponse": "Header header=1; int64 id=2; int64 ttl=3",
    "LeaseRevokeRequest": "int64 id=1",
    "LeaseRevokeResponse": "Header header=1",
    "StatusRequest": "",
    "StatusResponse": "Header header=1; string version=2; int64 db_size=3; uint64 leader=4",
    "Member": (
        "uint64 id=1; string name=2; repeated string peer_urls=3; repeated string client_urls=4; "
        "bool learner=5"
    ),
    "MemberListRequest": "",
    "MemberListResponse": "Header header=1; repeated Member members=2",
    "MemberAddRequest": "repeated string peer_urls=1; bool learner=2",
    "MemberAddResponse": "Header header=1; Member member=2; repeated Member members=3",
    "MemberPromoteRequest": "uint64 id=1",
    "MemberPromoteResponse": "Header header=1; repeated Member members=2",
    "MemberRemoveRequest": "uint64 id=1",
    "MemberRemoveResponse": "Header header=1; repeated Member members=2",
}
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bytes": _Field.TYPE_BYTES,
    "string": _Field.TYPE_STRING,
    "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint64": _Field.TYPE_UINT64,
}


def _add_field(message: descriptor_pb2.DescriptorProto, text: str) -> None:
    *label, kind, rest = text.split()
    name, _, number = rest.partition("=")
    field = message.field.add(name=name, number=int(number))
    field.label = _Field.LABEL_REPEATED if label == ["repeated"] else _Field.LABEL_OPTIONAL
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    if label == ["oneof"]:  # a choice, and 0 or empty is told from absent
        field.oneof_index = 0
        if not message.oneof_decl:
            message.oneof_decl.add(name="choice")


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="plum/etcd.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field in filter(None, fields.split("; ")):
            _add_field(message, field)
    pool = descriptor_pool.DescriptorPool()  # our own: names cannot clash
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _SCHEMA
    }


#: Message classes by name.
MESSAGES: dict[str, Any] = _build()
