"""Registers, emits, subscribes and requests through a hub, with stubs generated from the public protos alone."""

import os
import sys

import grpc
from qirvo.hub.v1 import errors_pb2
from qirvo.hub.v1 import event_service_pb2 as events
from qirvo.hub.v1 import event_service_pb2_grpc as events_grpc
from qirvo.hub.v1 import messaging_service_pb2 as messaging
from qirvo.hub.v1 import messaging_service_pb2_grpc as messaging_grpc
from qirvo.hub.v1 import payload_pb2 as payload
from qirvo.hub.v1 import plugin_service_pb2 as plugins
from qirvo.hub.v1 import plugin_service_pb2_grpc as plugins_grpc

TIMEOUT_SECONDS = 10


def main() -> None:
    metadata = [("authorization", "Bearer " + os.environ["HUB_TOKEN"])]
    with grpc.insecure_channel(os.environ["HUB_ADDRESS"]) as channel:
        registered = plugins_grpc.PluginServiceStub(channel).Register(
            plugins.RegisterRequest(
                manifest_json='{"manifest_version": 2, "id": "interop-python", "name": "Interop Python", "version": "1.0.0"}'
            ),
            metadata=metadata,
            timeout=TIMEOUT_SECONDS,
        )
        assert registered.plugin.id == "interop-python", registered
        assert registered.instance_id, registered

        bus = events_grpc.EventServiceStub(channel)
        stream = bus.Subscribe(
            events.SubscribeRequest(patterns=["interop.python.*"], limit=1),
            metadata=metadata,
            timeout=TIMEOUT_SECONDS,
        )
        assert next(stream).WhichOneof("frame") == "ready"
        emitted = bus.Emit(
            events.EmitRequest(
                event=events.Event(type="interop.python.done", payload=payload.Payload(json='{"from": "python"}'))
            ),
            metadata=metadata,
            timeout=TIMEOUT_SECONDS,
        )
        received = [event for frame in stream if frame.WhichOneof("frame") == "batch" for event in frame.batch.events]
        assert [event.id for event in received] == [emitted.id], received
        assert received[0].source == "interop-python", received
        assert received[0].payload.json == '{"from": "python"}', received

        answer = messaging_grpc.MessagingServiceStub(channel).Request(
            messaging.RequestRequest(
                to=messaging.Address(plugin_id="interop-echo"),
                message=messaging.Message(type="echo", payload=payload.Payload(json='{"n":7}')),
            ),
            metadata=metadata,
            timeout=TIMEOUT_SECONDS,
        )
        assert answer.reply.success, answer
        assert answer.reply.data.json == '{"n":7}', answer

        try:
            bus.Emit(events.EmitRequest(event=events.Event(type="a..b")), metadata=metadata, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
            details = dict(error.trailing_metadata())["grpc-status-details-bin"]
            name = errors_pb2.ErrorReason.Name(errors_pb2.ERROR_REASON_INVALID_EVENT_TYPE)
            assert name.removeprefix("ERROR_REASON_").encode() in details, details
        else:
            sys.exit("a bad event type was accepted")
    print("python: registered, emitted, subscribed, requested")


if __name__ == "__main__":
    main()
