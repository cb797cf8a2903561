"""gRPC with nothing but reflection: a client that has never seen our .proto
files lists the services, builds a request and reads a stream."""
import unittest

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase)

from harness import ServiceTest


class ReflectionTest(ServiceTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.channel = grpc.insecure_channel(cls.service.grpc)
        cls.database = ProtoReflectionDescriptorDatabase(cls.channel)
        cls.pool = descriptor_pool.DescriptorPool(cls.database)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        super().tearDownClass()

    def message(self, name, **fields):
        descriptor = self.pool.FindMessageTypeByName(name)
        return message_factory.GetMessageClass(descriptor)(**fields)

    def method(self, path, output, stream=False):
        make = self.channel.unary_stream if stream else self.channel.unary_unary
        cls = message_factory.GetMessageClass(
            self.pool.FindMessageTypeByName(output))
        return make(path, request_serializer=lambda m: m.SerializeToString(),
                    response_deserializer=cls.FromString)

    def test_services_are_listed(self):
        names = set(self.database.get_services())
        self.assertLessEqual({"conclave.v1.Router", "conclave.v1.Registry",
                              "conclave.v1.ExpertWorker",
                              "grpc.health.v1.Health"}, names)

    def test_health(self):
        check = self.channel.unary_unary("/grpc.health.v1.Health/Check")
        # HealthCheckRequest{} -> HealthCheckResponse{status: SERVING = 1}
        self.assertEqual(check(b""), b"\x08\x01")

    def test_route(self):
        route = self.method("/conclave.v1.Router/Route", "conclave.v1.Decision")
        decision = route(self.message("conclave.v1.RouteRequest",
                                      text="Reverse a linked list in Rust"))
        self.assertEqual(decision.expert, "coder")

    def test_generate_streams_in_order(self):
        generate = self.method("/conclave.v1.Router/Generate",
                               "conclave.v1.GenerateEvent", stream=True)
        request = self.message("conclave.v1.GenerateRequest", model="chat",
                               text="Once upon a time")
        request.sampling.max_tokens = 6
        kinds = [e.WhichOneof("event") for e in generate(request)]
        self.assertEqual(kinds[0], "started")
        self.assertIn("delta", kinds)
        self.assertEqual(kinds.count("finished"), 1)
        self.assertEqual(kinds[-1], "usage")

    def test_errors_have_codes(self):
        route = self.method("/conclave.v1.Router/Route", "conclave.v1.Decision")
        with self.assertRaises(grpc.RpcError) as error:
            route(self.message("conclave.v1.RouteRequest", text="hi",
                               model="codr"))
        self.assertEqual(error.exception.code(), grpc.StatusCode.NOT_FOUND)
        self.assertIn("coder", error.exception.details())


if __name__ == "__main__":
    unittest.main()
