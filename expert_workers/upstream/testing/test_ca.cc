#include "expert_workers/upstream/testing/test_ca.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>

#include "base/check.h"

namespace conclave::upstream {
namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Cert = std::unique_ptr<X509, decltype(&X509_free)>;

template <typename Write>
std::string ToPem(Write write) {
  std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new(BIO_s_mem()), BIO_free);
  CHECK(write(bio.get()) == 1);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<size_t>(size));
}

TestCertificate ToPem(X509* certificate, EVP_PKEY* key) {
  TestCertificate out;
  out.certificate_pem =
      ToPem([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate); });
  out.key_pem = ToPem([&](BIO* bio) {
    return PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr,
                                    nullptr);
  });
  return out;
}

void AddExtension(X509* certificate, int nid, const std::string& value) {
  X509_EXTENSION* extension =
      X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str());
  CHECK(extension != nullptr);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

Cert Blank(const std::string& name, int days, EVP_PKEY* key) {
  Cert certificate(X509_new(), X509_free);
  X509_set_version(certificate.get(), 2);
  uint64_t serial = 0;
  CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial) ==
        1);
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate.get()),
                          serial >> 1 | 1);
  constexpr long kDay = 24 * 3600;
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -100 * kDay);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), days * kDay);
  X509_NAME_add_entry_by_txt(
      X509_get_subject_name(certificate.get()), "CN", MBSTRING_ASC,
      reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_pubkey(certificate.get(), key);
  return certificate;
}

}  // namespace

TestCa::TestCa() {
  const Key key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  CHECK(key != nullptr);
  const Cert certificate = Blank("conclave test CA", 1, key.get());
  X509_set_issuer_name(certificate.get(),
                       X509_get_subject_name(certificate.get()));
  AddExtension(certificate.get(), NID_basic_constraints, "critical,CA:TRUE");
  CHECK(X509_sign(certificate.get(), key.get(), EVP_sha256()) != 0);
  ca_ = ToPem(certificate.get(), key.get());
}

TestCertificate TestCa::Issue(const std::string& host, int days) const {
  const auto read = [](const std::string& pem) {
    return std::unique_ptr<BIO, decltype(&BIO_free)>(
        BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free);
  };
  const Cert ca(PEM_read_bio_X509(read(ca_.certificate_pem).get(), nullptr,
                                  nullptr, nullptr),
                X509_free);
  const Key ca_key(PEM_read_bio_PrivateKey(read(ca_.key_pem).get(), nullptr,
                                           nullptr, nullptr),
                   EVP_PKEY_free);
  const Key key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  const Cert certificate = Blank(host, days, key.get());
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(ca.get()));
  const bool is_address =
      host.find_first_not_of("0123456789.") == std::string::npos;
  AddExtension(certificate.get(), NID_subject_alt_name,
               (is_address ? "IP:" : "DNS:") + host);
  CHECK(X509_sign(certificate.get(), ca_key.get(), EVP_sha256()) != 0);
  return ToPem(certificate.get(), key.get());
}

}  // namespace conclave::upstream
