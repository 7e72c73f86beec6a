variable "name" {
  description = "Name of the cluster of nodes: of its resources, and the label of its gossip."
  type        = string
  default     = "gossipykv"
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,22}[a-z0-9]$", var.name))
    error_message = "The name has 2 to 24 lower-case letters, digits and hyphens."
  }
}

variable "image" {
  description = "The image, by its digest or at least a tag that never moves."
  type        = string
  validation {
    condition     = can(regex("(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})$", var.image))
    error_message = "The image needs a digest or a tag."
  }
}

variable "repository_arn" {
  description = "ARN of the ECR repository of the image; null for an image of a public registry."
  type        = string
  default     = null
}

variable "cpu_architecture" {
  description = "What the image was built for."
  type        = string
  default     = "ARM64"
  validation {
    condition     = contains(["ARM64", "X86_64"], var.cpu_architecture)
    error_message = "The architecture is ARM64 or X86_64."
  }
}

variable "task_size" {
  description = "CPU units and memory of a task. Every task holds the whole store, in three eighths of its memory."
  type        = string
  default     = "small"
  validation {
    condition     = contains(["small", "medium", "large", "xlarge"], var.task_size)
    error_message = "The size is small, medium, large or xlarge."
  }
}

variable "desired_count" {
  description = "How many nodes. Three survive the loss of a zone and of a task at once."
  type        = number
  default     = 3
  validation {
    condition     = var.desired_count >= 2 && var.desired_count <= 50
    error_message = "There are 2 to 50 nodes."
  }
}

variable "cluster_arn" {
  description = "The ECS cluster, which is there already."
  type        = string
}

variable "vpc_id" {
  description = "The VPC, which is there already, with both DNS switches on."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the tasks, one a zone, with a way out to ECR, CloudWatch Logs and Secrets Manager."
  type        = list(string)
  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "At least two zones, or the loss of one is the loss of the data."
  }
}

variable "listener_arn" {
  description = "A listener of an application load balancer that is there already. HTTPS, unless it is internal."
  type        = string
}

variable "listener_security_group_id" {
  description = "A security group of that load balancer; tasks take the requests of the API from it."
  type        = string
}

variable "listener_priority" {
  description = "The place of this rule among those of the listener."
  type        = number
  default     = 100
}

variable "host" {
  description = "The name by which clients call the API; the listener forwards what is asked of it."
  type        = string
}

variable "gossip_key_secret_arn" {
  description = "Secret of Secrets Manager with the gossip keys: base64, separated by commas (gossipykv keygen)."
  type        = string
}

variable "http_token_secret_arn" {
  description = "Secret of Secrets Manager with the bearer token of the API."
  type        = string
}

variable "secrets_kms_key_arn" {
  description = "KMS key of the two secrets; null leaves it to Secrets Manager's own."
  type        = string
  default     = null
}

variable "log_level" {
  description = "How much the nodes log. The status lines that alarms are made of are written at each."
  type        = string
  default     = "info"
  validation {
    condition     = contains(["error", "warn", "info", "debug", "trace"], var.log_level)
    error_message = "The level is error, warn, info, debug or trace."
  }
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
  default     = 30
}

variable "log_kms_key_arn" {
  description = "KMS key of the logs, which CloudWatch Logs may use; null leaves it to CloudWatch's own."
  type        = string
  default     = null
}

variable "alarm_topic_arn" {
  description = "SNS topic that is told of alarms; null tells nobody."
  type        = string
  default     = null
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the roles; null for none."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
