#include "registry/codec.h"

#include <algorithm>

namespace conclave::registry {

v1::Expert ToProto(const ExpertSpec& spec) {
  v1::Expert message;
  message.set_name(spec.name);
  message.set_state(static_cast<v1::ExpertState>(spec.state));
  message.set_version(spec.version);
  message.set_model(spec.model);
  if (!spec.endpoint.url.empty()) {
    v1::Endpoint* endpoint = message.mutable_endpoint();
    endpoint->set_url(spec.endpoint.url);
    endpoint->set_remote_model(spec.endpoint.remote_model);
    endpoint->set_api_key_env(spec.endpoint.api_key_env);
    endpoint->set_insecure(spec.endpoint.insecure);
  }
  message.set_base(spec.base);
  message.set_prompt(spec.prompt);
  for (const std::string& category : spec.categories) {
    message.add_categories(category);
  }
  for (const Sample& sample : spec.samples) {
    v1::Sample* added = message.add_samples();
    added->set_text(sample.text);
    added->set_category(sample.category);
  }
  message.set_cost(spec.cost);
  message.set_quality(spec.quality);
  message.set_worker(spec.worker);
  message.set_created_unix_ms(spec.created_unix_ms);
  return message;
}

ExpertSpec FromProto(const v1::Expert& message) {
  ExpertSpec spec;
  spec.name = message.name();
  if (message.state() >= v1::JOINING && message.state() <= v1::GONE) {
    spec.state = static_cast<ExpertState>(message.state());
  }
  spec.version = message.version();
  spec.model = message.model();
  spec.endpoint.url = message.endpoint().url();
  spec.endpoint.remote_model = message.endpoint().remote_model();
  spec.endpoint.api_key_env = message.endpoint().api_key_env();
  spec.endpoint.insecure = message.endpoint().insecure();
  spec.base = message.base();
  spec.prompt = message.prompt();
  spec.categories.assign(message.categories().begin(),
                         message.categories().end());
  spec.samples.reserve(static_cast<size_t>(message.samples_size()));
  for (const v1::Sample& sample : message.samples()) {
    spec.samples.push_back({sample.text(), sample.category()});
  }
  spec.cost = message.cost();
  spec.quality = message.quality();
  spec.worker = message.worker();
  spec.created_unix_ms = message.created_unix_ms();
  return spec;
}

v1::Alias ToProto(const std::string& name, const AliasRecord& record) {
  v1::Alias message;
  message.set_name(name);
  message.set_target(record.expert);
  message.set_version(record.version);
  return message;
}

AliasRecord FromProto(const v1::Alias& message) {
  return {.expert = message.target(), .version = message.version()};
}

v1::Model ToProto(const ModelRecord& record) {
  v1::Model message;
  message.set_name(record.name);
  message.set_version(record.version);
  message.set_architecture(record.architecture);
  message.set_bytes(record.bytes);
  message.set_parameters(record.parameters);
  message.set_context(record.context);
  message.set_source(record.source);
  return message;
}

ModelRecord FromProto(const v1::Model& message) {
  return {.name = message.name(),
          .version = message.version(),
          .architecture = message.architecture(),
          .bytes = message.bytes(),
          .parameters = message.parameters(),
          .context = message.context(),
          .source = message.source()};
}

v1::Worker ToProto(const WorkerRecord& record, int64_t now_unix_ms) {
  v1::Worker message;
  message.set_name(record.name);
  message.set_address(record.address);
  message.set_epoch(record.epoch);
  message.set_lease_ms(
      std::max<int64_t>(0, record.lease_expires_unix_ms - now_unix_ms));
  for (const std::string& model : record.models) message.add_models(model);
  return message;
}

WorkerRecord FromProto(const v1::Worker& message, int64_t now_unix_ms) {
  WorkerRecord record;
  record.name = message.name();
  record.address = message.address();
  record.epoch = message.epoch();
  // A day bounds what a broken peer could say.
  record.lease_expires_unix_ms =
      now_unix_ms +
      std::clamp<int64_t>(message.lease_ms(), 0, int64_t{86'400'000});
  record.models.assign(message.models().begin(), message.models().end());
  return record;
}

}  // namespace conclave::registry
