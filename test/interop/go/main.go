// Command client registers, emits, subscribes and requests through a hub, with code generated from the public protos.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	hubv1 "qirvo.dev/hub/v1"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("go: registered, emitted, subscribed, requested")
}

func run() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+os.Getenv("HUB_TOKEN"))
	connection, err := grpc.NewClient(os.Getenv("HUB_ADDRESS"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()

	registered, err := hubv1.NewPluginServiceClient(connection).Register(ctx, &hubv1.RegisterRequest{
		ManifestJson: `{"manifest_version": 2, "id": "interop-go", "name": "Interop Go", "version": "1.0.0"}`,
	})
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	if registered.GetPlugin().GetId() != "interop-go" || registered.GetInstanceId() == "" {
		return fmt.Errorf("registered as %v", registered)
	}

	bus := hubv1.NewEventServiceClient(connection)
	stream, err := bus.Subscribe(ctx, &hubv1.SubscribeRequest{Patterns: []string{"interop.go.*"}, Limit: 1})
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	first, err := stream.Recv()
	if err != nil || first.GetReady() == nil {
		return fmt.Errorf("first frame %v: %w", first, err)
	}
	emitted, err := bus.Emit(ctx, &hubv1.EmitRequest{Event: &hubv1.Event{
		Type:    "interop.go.done",
		Payload: &hubv1.Payload{Body: &hubv1.Payload_Json{Json: `{"from": "go"}`}},
	}})
	if err != nil {
		return fmt.Errorf("emit: %w", err)
	}
	var received []*hubv1.Event
	for {
		frame, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		received = append(received, frame.GetBatch().GetEvents()...)
	}
	if len(received) != 1 || received[0].GetId() != emitted.GetId() || received[0].GetSource() != "interop-go" {
		return fmt.Errorf("received %v, emitted %v", received, emitted)
	}

	answer, err := hubv1.NewMessagingServiceClient(connection).Request(ctx, &hubv1.RequestRequest{
		To: &hubv1.Address{Target: &hubv1.Address_PluginId{PluginId: "interop-echo"}},
		Message: &hubv1.Message{
			Type:    "echo",
			Payload: &hubv1.Payload{Body: &hubv1.Payload_Json{Json: `{"n":7}`}},
		},
	}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	if !answer.GetReply().GetSuccess() || answer.GetReply().GetData().GetJson() != `{"n":7}` {
		return fmt.Errorf("answer %v", answer)
	}

	_, err = bus.Emit(ctx, &hubv1.EmitRequest{Event: &hubv1.Event{Type: "a..b"}})
	failure := status.Convert(err)
	if failure.Code() != codes.InvalidArgument {
		return fmt.Errorf("a bad event type gave %v", err)
	}
	for _, detail := range failure.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetReason() == "INVALID_EVENT_TYPE" && info.GetDomain() == "hub.qirvo" {
			return nil
		}
	}
	return fmt.Errorf("no ErrorInfo in %v", failure.Details())
}
