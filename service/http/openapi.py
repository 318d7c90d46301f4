"""Write the OpenAPI document of the API: `python -m service.http.openapi SET FILE`.

SET is a `FileDescriptorSet` of the proto, with comments, as `protoc --include_source_info` writes
it. `make generate` runs this module.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

Field = descriptor_pb2.FieldDescriptorProto

SCALARS: dict[int, dict[str, Any]] = {
    Field.TYPE_DOUBLE: {"type": "number", "format": "double"},
    Field.TYPE_FLOAT: {"type": "number", "format": "float"},
    Field.TYPE_INT32: {"type": "integer", "format": "int32"},
    Field.TYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": (1 << 32) - 1},
    Field.TYPE_INT64: {"type": "string", "format": "int64"},
    Field.TYPE_UINT64: {"type": "string", "format": "uint64"},
    Field.TYPE_BOOL: {"type": "boolean"},
    Field.TYPE_STRING: {"type": "string"},
    Field.TYPE_BYTES: {"type": "string", "format": "byte"},
}
"""JSON schema of each scalar type of a proto. JSON holds 64-bit integers as text."""

WELL_KNOWN: dict[str, dict[str, Any]] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Duration": {"type": "string", "example": "1.5s"},
}
ERROR = {
    "type": "object",
    "description": "An error, as the Connect protocol defines it.",
    "required": ["code"],
    "properties": {
        "code": {"type": "string", "example": "invalid_argument"},
        "message": {"type": "string"},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "type": {"type": "string", "example": "google.rpc.ErrorInfo"},
                    "value": {"type": "string", "format": "byte"},
                    "debug": {"type": "object"},
                },
            },
        },
    },
}
# The path of a comment in `source_code_info` consists of field numbers and indexes.
MESSAGES, SERVICES, ENUMS = 4, 6, 5  # field numbers in FileDescriptorProto
FIELDS, NESTED, METHODS = 2, 3, 2  # field numbers in DescriptorProto and ServiceDescriptorProto


def build_document(file: descriptor_pb2.FileDescriptorProto, version: str) -> dict[str, Any]:
    """Return the OpenAPI document of the only service in a proto file, as a JSON object."""
    comments = {
        tuple(location.path): " ".join(location.leading_comments.split())
        for location in file.source_code_info.location
    }
    (service,) = file.service
    schemas: dict[str, Any] = {"Error": ERROR}
    for index, message in enumerate(file.message_type):
        schemas |= _message_schemas(message, (MESSAGES, index), comments)
    for index, enum in enumerate(file.enum_type):
        schemas[enum.name] = {
            "type": "string",
            "enum": [value.name for value in enum.value],
            "description": comments.get((ENUMS, index), ""),
        }
    paths = {
        f"/{file.package}.{service.name}/{method.name}": {
            "post": _operation(method, comments.get((SERVICES, 0, METHODS, index), ""))
        }
        for index, method in enumerate(service.method)
    }
    return {
        "openapi": "3.0.3",
        "info": {
            "title": f"{file.package}.{service.name}",
            "version": version,
            "description": comments.get((SERVICES, 0), ""),
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def _operation(method: descriptor_pb2.MethodDescriptorProto, description: str) -> dict[str, Any]:
    def content(name: str) -> dict[str, Any]:
        return {"application/json": {"schema": _reference(name)}}

    return {
        "operationId": method.name,
        "description": description,
        "parameters": [
            {
                "name": "connect-timeout-ms",
                "in": "header",
                "description": "Milliseconds that the call may take.",
                "schema": {"type": "integer", "minimum": 1},
            }
        ],
        "requestBody": {"required": True, "content": content(method.input_type)},
        "responses": {
            "200": {"description": "The response.", "content": content(method.output_type)},
            "default": {"description": "An error.", "content": content("Error")},
        },
    }


def _message_schemas(
    message: descriptor_pb2.DescriptorProto,
    path: tuple[int, ...],
    comments: dict[tuple[int, ...], str],
) -> dict[str, Any]:
    """Return the JSON schemas of a message and of the messages nested in it, by name.

    `path` is the path of the message in `comments`.
    """
    schemas: dict[str, Any] = {}
    maps = {}
    for index, inner in enumerate(message.nested_type):
        if inner.options.map_entry:
            maps[inner.name] = _type_schema(inner.field[1])
        else:
            schemas |= _message_schemas(inner, (*path, NESTED, index), comments)
    properties = {}
    for index, field in enumerate(message.field):
        schema = _type_schema(field)
        entry = field.type_name.rpartition(".")[2]
        if entry in maps:
            schema = {"type": "object", "additionalProperties": maps[entry]}
        elif field.label == Field.LABEL_REPEATED:
            schema = {"type": "array", "items": schema}
        comment = comments.get((*path, FIELDS, index))
        if comment and "$ref" in schema:
            schema = {"allOf": [schema]}
        properties[field.json_name] = schema | ({"description": comment} if comment else {})
    schemas[message.name] = {
        "type": "object",
        "description": comments.get(path, ""),
        "additionalProperties": False,
        "properties": properties,
    }
    return schemas


def _type_schema(field: descriptor_pb2.FieldDescriptorProto) -> dict[str, Any]:
    if field.type in {Field.TYPE_MESSAGE, Field.TYPE_ENUM}:
        return WELL_KNOWN.get(field.type_name) or _reference(field.type_name)
    return SCALARS[field.type]


def _reference(type_name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{type_name.rpartition('.')[2]}"}


def main(descriptor_set: str, target: str) -> None:
    """Write the OpenAPI document of the proto, the last file in a descriptor set, to `target`."""
    files = descriptor_pb2.FileDescriptorSet.FromString(Path(descriptor_set).read_bytes())
    document = build_document(files.file[-1], version="v1")
    text = json.dumps(document, indent=1, ensure_ascii=False)
    Path(target).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
