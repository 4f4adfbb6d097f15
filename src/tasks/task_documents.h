#pragma once
// From a record of each benchmark to what is asked: the fields, and the variants of them that are in use. Each throws
// Error naming file, line and field.
#include "tasks/task.h"

namespace strand {

TaskDocument boolq_document(const nlohmann::ordered_json& record, const std::string& where);
TaskDocument arc_document(const nlohmann::ordered_json& record, const std::string& where);
TaskDocument truthfulqa_mc1_document(const nlohmann::ordered_json& record, const std::string& where);
TaskDocument truthfulqa_mc2_document(const nlohmann::ordered_json& record, const std::string& where);
TaskDocument piqa_document(const nlohmann::ordered_json& record, const std::string& where);
/// The record has its subject too.
TaskDocument mmlu_document(const nlohmann::ordered_json& record, const std::string& where);
TaskDocument hellaswag_document(const nlohmann::ordered_json& record, const std::string& where);
TaskDocument lambada_document(const nlohmann::ordered_json& record, const std::string& where);
TaskDocument wikitext_document(const nlohmann::ordered_json& record, const std::string& where);
TaskDocument winogrande_document(const nlohmann::ordered_json& record, const std::string& where);
TaskDocument openbookqa_document(const nlohmann::ordered_json& record, const std::string& where);
TaskDocument sciq_document(const nlohmann::ordered_json& record, const std::string& where);

}  // namespace strand
