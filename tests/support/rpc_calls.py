"""Calls to `Recommend` without the client library, and the reasons for refused calls."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from tests.support.rpc_servers import PATIENCE_S, WATERLOO

KEY, OTHER = "a-key-of-some-length", "another-key-of-length"


def call_recommend(
    address: str, *metadata: tuple[str, str], timeout: float = PATIENCE_S
) -> tuple[pb.RecommendResponse, dict[str, Any]]:
    """Call `Recommend` with metadata. Return the response and the trailing metadata."""
    with grpc.insecure_channel(address) as channel:
        stub = recommender_pb2_grpc.RecommenderStub(channel)
        response, call = stub.Recommend.with_call(WATERLOO, metadata=metadata, timeout=timeout)
        return response, dict(call.trailing_metadata())


def get_refusal(address: str, *metadata: tuple[str, str]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call_recommend(address, *metadata)
    return caught.value


def read_reason(error: grpc.RpcError) -> str:
    status = rpc_status.from_call(error)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return str(info.reason)
